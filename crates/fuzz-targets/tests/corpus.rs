//! The targets over the kept corpus and over seeded mutations of it, on any toolchain.
//!
//! `BOOTKEEP_FUZZ_ROUNDS` sets how many mutations of each file are tried (default 300).
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    panic::{catch_unwind, AssertUnwindSafe},
    path::PathBuf,
};

use bootkeep_fuzz_targets::{Target, TARGETS};

/// SplitMix64: small, seeded, good enough to choose bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Largest part of a file that is mutated: what matters is near the start of an entry, not that there are many.
const MAX_INPUT: usize = 16 * 1024;
/// Lengths and counts that parsers get wrong.
const ODD: [u32; 8] = [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at.min(bytes.len()), random.next() as u8),
        2 if !bytes.is_empty() => drop(bytes.remove(at)),
        3 => {
            let odd = ODD[random.below(ODD.len())];
            let odd = [odd.to_le_bytes(), odd.to_be_bytes()][random.below(2)];
            let end = bytes.len().min(at + 4);
            bytes[at.min(end)..end].copy_from_slice(&odd[..end - at.min(end)]);
        }
        4 => {
            let (from, length) = (random.below(other.len()), random.below(64));
            let piece = &other[from..other.len().min(from + length)];
            bytes.splice(at..at, piece.iter().copied());
        }
        _ if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        _ => {}
    }
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut files: Vec<_> = fs::read_dir(folder.join(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let read = |path: PathBuf| (path.display().to_string(), fs::read(&path).unwrap());
    files.into_iter().map(read).collect()
}

fn must_hold(target: Target, input: &[u8], what: &str) {
    let held = catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(held.is_ok(), "{what}, input {}", hex::encode(input));
}

#[test]
fn the_corpus_holds() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "no corpus for {name}");
        for (file, bytes) in files {
            must_hold(target, &bytes, &file);
        }
    }
}

#[test]
fn seeded_mutations_of_the_corpus_hold() {
    let rounds = std::env::var("BOOTKEEP_FUZZ_ROUNDS").map_or(300, |text| text.parse().unwrap());
    for (name, target) in TARGETS {
        let files = corpus(name);
        for (number, (file, bytes)) in files.iter().enumerate() {
            let mut random = Random(number as u64);
            for round in 0..rounds {
                let start = random.below(bytes.len().saturating_sub(MAX_INPUT));
                // Most rounds begin where the format does.
                let start = if round % 8 == 7 { start } else { 0 };
                let mut input = bytes[start..bytes.len().min(start + MAX_INPUT)].to_vec();
                let other = &files[random.below(files.len())].1;
                for _ in 0..=random.below(4) {
                    mutate(&mut random, &mut input, other);
                }
                must_hold(target, &input, &format!("{file}, round {round}"));
            }
        }
    }
}

#[test]
fn every_target_has_a_fuzzer() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let source = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            source.contains(&format!("bootkeep_fuzz_targets::{name}(")),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
