#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bootkeep_fuzz_targets::boot_predict(input));
