#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use pled_engine::template::Template;

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../targets.rs"]
mod targets;

static ORDER: LazyLock<Arc<Template>> = LazyLock::new(|| {
    let source = include_str!("../../examples/order-fulfilment.json");
    Arc::new(Template::parse(source).expect("the example is a template"))
});

fuzz_target!(|bytes: &[u8]| targets::entry(bytes, &ORDER));
