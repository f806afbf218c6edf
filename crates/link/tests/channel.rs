//! Both ends of a link over a pipe in memory, with a clock the test turns.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bootkeep_link::{
    channel::{End, Receiver, Sender},
    LinkError,
};
use bootkeep_protocol::{
    limits::{MAX_BEFORE_ACCEPT, MAX_FRAME, PING_SECONDS, SILENCE_SECONDS},
    link::{Event, ImaSlice, NodeFrame, ServerFrame},
    Nonce,
};
use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::io::{duplex, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::{
    tungstenite::{
        protocol::{frame::coding::CloseCode, Role},
        Message,
    },
    WebSocketStream,
};

const PIPE: usize = 64 * 1024;

/// A service's end, and a node that does what the test wants.
async fn pair() -> (
    Sender<ServerFrame>,
    Receiver<NodeFrame>,
    WebSocketStream<DuplexStream>,
) {
    let (service, node) = duplex(PIPE);
    let end = End::server(service, [7; 32]).await;
    assert_eq!(end.exporter(), &[7; 32]);
    let (sender, receiver) = end.split();
    let node = WebSocketStream::from_raw_socket(node, Role::Client, None).await;
    (sender, receiver, node)
}

fn event(count: u64) -> NodeFrame {
    let event = Event::ImaGrew { count };
    NodeFrame::Event { event }
}

fn text(frame: &NodeFrame) -> Message {
    Message::text(serde_json::to_string(frame).unwrap())
}

/// The close code the node sees, after any other frames.
async fn close_code(node: &mut WebSocketStream<DuplexStream>) -> Option<CloseCode> {
    while let Some(Ok(message)) = node.next().await {
        if let Message::Close(frame) = message {
            return frame.map(|frame| frame.code);
        }
    }
    None
}

#[tokio::test]
async fn frames_go_both_ways() {
    let (sender, mut receiver, mut node) = pair().await;
    let hello = ServerFrame::Hello {
        version: 1,
        nonce: Nonce::from([1; 32]),
    };
    sender.send(&hello).await.unwrap();
    let Message::Text(seen) = node.next().await.unwrap().unwrap() else {
        panic!("not text")
    };
    assert_eq!(serde_json::from_str::<ServerFrame>(&seen).unwrap(), hello);
    node.send(text(&event(5))).await.unwrap();
    assert_eq!(receiver.next().await.unwrap(), Some(event(5)));
    node.close(None).await.unwrap();
    assert_eq!(receiver.next().await.unwrap(), None);
    assert!(matches!(sender.send(&hello).await, Err(LinkError::Ended)));
}

#[tokio::test]
async fn what_is_not_a_frame_ends_the_link_with_a_typed_error() {
    type Check = fn(&LinkError) -> bool;
    let cases: [(&str, Message, CloseCode, Check); 4] = [
        (
            "binary",
            Message::binary(vec![1, 2]),
            CloseCode::Unsupported,
            |error| matches!(error, LinkError::Binary),
        ),
        (
            "no JSON",
            Message::text("{\"type\":"),
            CloseCode::Invalid,
            |error| matches!(error, LinkError::Json { line: 1, .. }),
        ),
        (
            "unknown frame",
            Message::text("{\"type\":\"sesame\"}"),
            CloseCode::Invalid,
            |error| matches!(error, LinkError::Json { .. }),
        ),
        (
            "a frame of the other side",
            Message::text("{\"type\":\"accepted\"}"),
            CloseCode::Invalid,
            |error| matches!(error, LinkError::Json { .. }),
        ),
    ];
    for (name, message, code, check) in cases {
        let (_sender, mut receiver, mut node) = pair().await;
        node.send(message).await.unwrap();
        let error = receiver.next().await.unwrap_err();
        assert!(check(&error), "{name}: {error:?}");
        assert_eq!(close_code(&mut node).await, Some(code), "{name}");
        assert!(receiver.next().await.unwrap().is_none(), "{name}");
    }
}

#[tokio::test]
async fn errors_do_not_repeat_what_the_peer_said() {
    let (_sender, mut receiver, mut node) = pair().await;
    node.send(Message::text("{\"secret-word\":1}"))
        .await
        .unwrap();
    let error = receiver.next().await.unwrap_err();
    assert!(!error.to_string().contains("secret-word"), "{error}");
}

#[tokio::test]
async fn a_stranger_may_send_little_until_it_is_accepted() {
    let big = NodeFrame::Reply {
        id: 1,
        outcome: bootkeep_protocol::link::Outcome::Refused(bootkeep_protocol::Problem::new(
            bootkeep_protocol::ProblemKind::Busy,
            "x",
            "x".repeat(MAX_BEFORE_ACCEPT + 1),
        )),
    };
    let (_sender, mut receiver, mut node) = pair().await;
    let (sent, seen) = tokio::join!(node.send(text(&big)), receiver.next());
    drop(sent);
    assert!(matches!(seen, Err(LinkError::Transport(_))), "{seen:?}");

    let (sender, mut receiver, mut node) = pair().await;
    sender.accept().await.unwrap();
    let (sent, seen) = tokio::join!(node.send(text(&big)), receiver.next());
    sent.unwrap();
    assert_eq!(seen.unwrap(), Some(big));
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_before_it_comes() {
    let (sender, mut receiver, mut node) = pair().await;
    sender.accept().await.unwrap();
    // The head of a masked text frame that announces one byte too many.
    let mut head = vec![0x81, 0x80 | 127];
    head.extend_from_slice(&(MAX_FRAME as u64 + 1).to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    node.get_mut().write_all(&head).await.unwrap();
    let error = receiver.next().await.unwrap_err();
    assert!(matches!(error, LinkError::TooLarge(MAX_FRAME)), "{error:?}");
}

#[tokio::test]
async fn our_own_frame_over_the_limit_leaves_the_link_alive() {
    let (service, node) = duplex(PIPE);
    let (_sender, mut service) = End::<ServerFrame, NodeFrame>::server(service, [0; 32])
        .await
        .split();
    let (sender, _receiver) = End::<NodeFrame, ServerFrame>::server(node, [0; 32])
        .await
        .split();
    let evidence = ImaSlice {
        offset: 0,
        data: vec![0; MAX_FRAME].into(),
    };
    let huge = serde_json::to_value(evidence).unwrap().to_string();
    let problem = bootkeep_protocol::Problem::new(bootkeep_protocol::ProblemKind::Busy, "x", huge);
    let frame = NodeFrame::Reply {
        id: 1,
        outcome: bootkeep_protocol::link::Outcome::Refused(problem),
    };
    assert!(matches!(
        sender.send(&frame).await,
        Err(LinkError::TooLarge(_))
    ));
    // Both ends are servers here, so the small frame arrives unmasked: it arrives all the same, as an error.
    sender.send(&event(1)).await.unwrap();
    assert!(service.next().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanished_is_noticed() {
    let (sender, mut receiver, node) = pair().await;
    let start = tokio::time::Instant::now();
    // The pipe stays open, nobody answers: a host that lost its power.
    let error = receiver.next().await.unwrap_err();
    assert!(matches!(error, LinkError::Silent(_)), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), SILENCE_SECONDS);
    let hello = ServerFrame::Accepted {};
    assert!(sender.send(&hello).await.is_err());
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_peer_that_answers_pings_stays() {
    let (sender, mut receiver, mut node) = pair().await;
    let answering = tokio::spawn(async move {
        let mut pings = 0;
        // tungstenite answers pings while it reads.
        while let Some(Ok(message)) = node.next().await {
            pings += u32::from(message.is_ping());
        }
        pings
    });
    let quiet = Duration::from_secs(10 * SILENCE_SECONDS);
    let nothing = tokio::time::timeout(quiet, receiver.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    sender.close().await;
    let pings = answering.await.unwrap();
    assert!(u64::from(pings) >= 10 * SILENCE_SECONDS / PING_SECONDS - 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_cut_off() {
    let (sender, mut receiver, node) = pair().await;
    let problem = bootkeep_protocol::Problem::new(
        bootkeep_protocol::ProblemKind::Busy,
        "x",
        "x".repeat(10 * PIPE),
    );
    let stuck = sender.send(&ServerFrame::Refused { problem }).await;
    assert!(matches!(stuck, Err(LinkError::Ended)), "{stuck:?}");
    let error = receiver.next().await.unwrap_err();
    assert!(matches!(error, LinkError::Stuck(_)), "{error:?}");
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_listen_does_not_lose_the_link() {
    let (_sender, mut receiver, mut node) = pair().await;
    for count in 0..20 {
        node.send(text(&event(count))).await.unwrap();
    }
    // Busy for long, with frames waiting and nobody reading them.
    tokio::time::sleep(Duration::from_secs(5 * SILENCE_SECONDS)).await;
    for count in 0..20 {
        assert_eq!(receiver.next().await.unwrap(), Some(event(count)));
    }
}

#[tokio::test]
async fn dropping_either_half_says_good_bye() {
    let (sender, receiver, mut node) = pair().await;
    drop(receiver);
    assert_eq!(close_code(&mut node).await, Some(CloseCode::Normal));
    drop(sender);
    let (sender, _receiver, mut node) = pair().await;
    drop(sender);
    assert_eq!(close_code(&mut node).await, Some(CloseCode::Normal));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever bytes come instead of WebSocket frames: an end, never a panic, never a frame out of nothing.
    #[test]
    fn any_bytes_end_the_link_quietly(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (service, mut peer) = duplex(PIPE);
            let end: End<ServerFrame, NodeFrame> = End::server(service, [0; 32]).await;
            let (_sender, mut receiver) = end.split();
            peer.write_all(&bytes).await.unwrap();
            drop(peer);
            while let Ok(Some(_)) = receiver.next().await {}
        });
    }

    /// Whatever text comes in a good WebSocket frame: a frame, or a typed error.
    #[test]
    fn any_text_is_a_frame_or_an_error(body in "\\PC{0,200}|\\{\"type\":\"(open|reply|event)\",\\PC{0,100}\\}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_sender, mut receiver, mut node) = pair().await;
            node.send(Message::text(body)).await.unwrap();
            let seen = receiver.next().await;
            assert!(matches!(seen, Ok(Some(_)) | Err(LinkError::Json { .. })), "{seen:?}");
        });
    }
}
