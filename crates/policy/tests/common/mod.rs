//! A machine made of code: an AK of P-256, PCRs, an event log and an IMA list that agree with each other.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;

use aws_lc_rs::{
    digest::{digest, SHA1_FOR_LEGACY_USE_ONLY},
    rand::SystemRandom,
    signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_FIXED_SIGNING},
};
use bootkeep_evidence::{
    ima::{boot_aggregate, parse_binary},
    pcr::extend,
    AkPublic, ClockInfo, PcrValues,
};
use bootkeep_protocol::{
    link::{Evidence, ImaSlice, PcrValue, Quote, QuoteCall},
    quote_qualifying_data, BootId, NodeId, Phase,
};
use sha2::{Digest, Sha256};

pub const TPM_GENERATED: u32 = 0xff54_4347;
pub const QUOTE: u16 = 0x8018;

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

fn tpm2b(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// What a quote says beside PCRs and qualifying data: tests change it.
#[derive(Clone, Copy)]
pub struct Form {
    pub magic: u32,
    pub kind: u16,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            magic: TPM_GENERATED,
            kind: QUOTE,
        }
    }
}

#[derive(Clone)]
pub struct Machine {
    key: Arc<EcdsaKeyPair>,
    pub ak_public: Vec<u8>,
    /// Stands for the EK's public area; the node id is derived from it.
    pub ek_public: Vec<u8>,
    pub node: NodeId,
    pub nk: [u8; 32],
    pub phase: Phase,
    pub boot_id: BootId,
    pub pcrs: [[u8; 32]; 24],
    pub clock: ClockInfo,
    pub event_log: Vec<u8>,
    pub ima: Vec<u8>,
    pub form: Form,
}

fn ak_public(point: &[u8]) -> Vec<u8> {
    [
        &[0x00, 0x23, 0x00, 0x0b][..],
        // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
        &0x0005_0072u32.to_be_bytes(),
        &[0, 0],
        &[0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10],
        &tpm2b(&point[1..33]),
        &tpm2b(&point[33..]),
    ]
    .concat()
}

fn event_log_header() -> Vec<u8> {
    let spec = [
        b"Spec ID Event03\0".as_slice(),
        &[0, 0, 0, 0, 0, 2, 0, 2],
        &1u32.to_le_bytes(),
        &[0x0b, 0, 32, 0],
        &[0],
    ]
    .concat();
    [
        &0u32.to_le_bytes(),
        3u32.to_le_bytes().as_slice(),
        &[0; 20],
        &counted(&spec),
    ]
    .concat()
}

impl Machine {
    /// A machine that has booted firmware, kernel, command line and initramfs, and started IMA.
    pub fn booted(name: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let ak_public = ak_public(key.public_key().as_ref());
        let mut machine = Self {
            key: Arc::new(key),
            ak_public,
            ek_public: name.into(),
            node: NodeId::of_ek_public(name.as_bytes()),
            nk: [7; 32],
            phase: Phase::Initramfs,
            boot_id: "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap(),
            pcrs: [[0; 32]; 24],
            clock: ClockInfo {
                clock: 1000,
                reset_count: 5,
                restart_count: 0,
                safe: true,
            },
            event_log: Vec::new(),
            ima: Vec::new(),
            form: Form::default(),
        };
        machine.boot(b"quiet");
        machine
    }

    /// Boots again with this command line: PCRs, logs, the TPM's clock.
    pub fn boot(&mut self, command_line: &[u8]) {
        self.pcrs = [[0; 32]; 24];
        self.pcrs[17..23].fill([0xff; 32]);
        self.clock.reset_count += 1;
        self.clock.clock += 10_000;
        self.phase = Phase::Initramfs;
        self.event_log = event_log_header();
        self.ima.clear();
        self.event(0, 8, b"firmware 1.0", b"firmware 1.0");
        self.event(4, 0x8000_0003, b"kernel image", b"path of the kernel");
        self.event(7, 0x8000_0001, b"secure boot", b"secure boot");
        self.event(
            9,
            6,
            command_line,
            b"\x8b\xf4\x3e\xec\x1a\0\0\0LOADED_IMAGE::LoadOptions\0",
        );
        self.event(
            9,
            6,
            b"initramfs",
            b"\x8b\xf4\x3e\xec\x0d\0\0\0Linux initrd\0",
        );
        let aggregate = boot_aggregate(&self.values()).unwrap();
        self.measure_digest("boot_aggregate", &aggregate);
        self.measure("/init", b"init");
    }

    pub fn event(&mut self, pcr: u8, kind: u32, digested: &[u8], data: &[u8]) {
        let digest: [u8; 32] = Sha256::digest(digested).into();
        self.event_log
            .extend_from_slice(&u32::from(pcr).to_le_bytes());
        self.event_log.extend_from_slice(&kind.to_le_bytes());
        self.event_log.extend_from_slice(&1u32.to_le_bytes());
        self.event_log.extend_from_slice(&[0x0b, 0]);
        self.event_log.extend_from_slice(&digest);
        self.event_log.extend_from_slice(&counted(data));
        self.extend(pcr, &digest);
    }

    pub fn extend(&mut self, pcr: u8, digest: &[u8; 32]) {
        let value = &mut self.pcrs[usize::from(pcr)];
        *value = extend(value, digest);
    }

    /// The kernel measures a file.
    pub fn measure(&mut self, path: &str, contents: &[u8]) {
        self.measure_digest(path, &Sha256::digest(contents).into());
    }

    pub fn measure_digest(&mut self, path: &str, digest: &[u8; 32]) {
        let field = [b"sha256:\0".as_slice(), digest].concat();
        self.measure_field("ima-ng", path, &field, false);
    }

    pub fn violate(&mut self, path: &str) {
        let field = [b"sha256:\0".as_slice(), &[0; 32]].concat();
        self.measure_field("ima-ng", path, &field, true);
    }

    /// A file with its signature (`ima-sig`).
    pub fn measure_signed(&mut self, path: &str, field: &[u8], signature: &[u8]) {
        let name = [path.as_bytes(), &[0]].concat();
        let data = [counted(field), counted(&name), counted(signature)].concat();
        self.measure_data("ima-sig", &data, false);
    }

    /// A buffer (`ima-buf`): keys, a command line, critical data.
    pub fn measure_buffer(&mut self, name: &str, buffer: &[u8]) {
        let field = [b"sha256:\0".as_slice(), &Sha256::digest(buffer)].concat();
        let name = [name.as_bytes(), &[0]].concat();
        let data = [counted(&field), counted(&name), counted(buffer)].concat();
        self.measure_data("ima-buf", &data, false);
    }

    pub fn measure_field(&mut self, template: &str, path: &str, field: &[u8], violation: bool) {
        let name = [path.as_bytes(), &[0]].concat();
        let data = [counted(field), counted(&name)].concat();
        self.measure_data(template, &data, violation);
    }

    /// With these fields, as the kernel hashes them.
    pub fn measure_data(&mut self, template: &str, data: &[u8], violation: bool) {
        let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, data);
        let sha1 = if violation { &[0; 20] } else { sha1.as_ref() };
        let entry = [
            &10u32.to_le_bytes(),
            sha1,
            &counted(template.as_bytes()),
            &counted(data),
        ]
        .concat();
        let extended = parse_binary(&entry).unwrap().0[0].extended_digest();
        self.ima.extend_from_slice(&entry);
        self.extend(10, &extended);
    }

    pub fn values(&self) -> PcrValues {
        (0..24).zip(self.pcrs).collect()
    }

    pub fn ak(&self) -> AkPublic {
        AkPublic::parse(&self.ak_public).unwrap()
    }

    /// Signs what this machine's TPM would.
    pub fn quote(&self, qualifying: &[u8], selection: &[u8]) -> Quote {
        let mut mask = [0u8; 3];
        let values: PcrValues = selection
            .iter()
            .map(|&pcr| {
                mask[usize::from(pcr / 8)] |= 1 << (pcr % 8);
                (pcr, self.pcrs[usize::from(pcr)])
            })
            .collect();
        let attest = [
            &self.form.magic.to_be_bytes()[..],
            &self.form.kind.to_be_bytes(),
            &tpm2b(b"signer"),
            &tpm2b(qualifying),
            &self.clock.clock.to_be_bytes(),
            &self.clock.reset_count.to_be_bytes(),
            &self.clock.restart_count.to_be_bytes(),
            &[u8::from(self.clock.safe)],
            &1u64.to_be_bytes(),
            &1u32.to_be_bytes(),
            &[0x00, 0x0b, 3],
            &mask,
            &tpm2b(&values.digest()),
        ]
        .concat();
        let signed = self.key.sign(&SystemRandom::new(), &attest).unwrap();
        let (r, s) = signed.as_ref().split_at(32);
        let signature = [&[0x00, 0x18, 0x00, 0x0b][..], &tpm2b(r), &tpm2b(s)].concat();
        Quote {
            attest: attest.into(),
            signature: signature.into(),
            pcrs: values
                .iter()
                .map(|(index, value)| PcrValue {
                    index,
                    digest: value.as_slice().into(),
                })
                .collect(),
        }
    }

    /// Answers a question over a link with this exporter.
    pub fn evidence(&self, call: &QuoteCall, exporter: &[u8; 32]) -> Evidence {
        let qualifying =
            quote_qualifying_data(&call.nonce, call.asker, &self.nk, &self.node, exporter);
        let slice = |offset: u64| ImaSlice {
            offset,
            data: self.ima.get(offset as usize..).unwrap_or_default().into(),
        };
        Evidence {
            quote: self.quote(&qualifying, &call.pcrs),
            nk_public: self.nk.as_slice().into(),
            boot_id: self.boot_id.clone(),
            phase: self.phase,
            event_log: call.event_log.then(|| self.event_log.clone().into()),
            ima: call.ima_offset.map(slice),
            pcr_signatures: None,
        }
    }
}
