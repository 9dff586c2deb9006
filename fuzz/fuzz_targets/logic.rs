#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../targets.rs"]
mod targets;

fuzz_target!(|bytes: &[u8]| targets::logic(bytes));
