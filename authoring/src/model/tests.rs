//! What the exploration finds against what executions do.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;
use pled_engine::simulate::Simulation;
use pled_engine::template::Template;
use pled_engine::template::document::Node;

use super::explore::Exploration;
use super::skeleton::Skeleton;
use crate::check::facts::Facts;

/// Cases that were generated to compare the engine with XState: a template and steps each.
fn cases() -> Vec<String> {
    let path = "../engine/tests/data/statecharts.jsonl.gz";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let lines = BufReader::new(GzDecoder::new(std::fs::File::open(path).unwrap())).lines();
    let head = r#""template":{"pled":"1.0","version":1,"logic":"pled-logic-1","#;
    lines.map(|line| line.unwrap().replacen(r#""template":{"#, head, 1)).collect()
}

/// The sets of leaf states that the exploration found, if these are all.
fn explored(template: &Template, source: &str) -> Option<BTreeSet<Vec<Arc<str>>>> {
    let root = Node::parse(source).unwrap();
    let facts = Facts::of(template, &root);
    let mut open = BTreeSet::new();
    let exploration = loop {
        let skeleton = Skeleton::of(Template::parse(source).unwrap(), &facts, &open);
        match Exploration::run(&skeleton, 100) {
            Ok(exploration) => break exploration,
            Err(_) => open.extend(skeleton.exact.iter().map(|key| key.to_string())),
        }
    };
    let leaves = |active: &[u32]| {
        template.leaves(active).map(|leaf| template.state(leaf).id.clone()).collect::<Vec<_>>()
    };
    let all = exploration.nodes.iter().map(|node| leaves(&node.chart.active));
    exploration.complete.then(|| all.collect())
}

#[test]
fn no_execution_comes_to_a_configuration_that_the_exploration_does_not_know() {
    let (mut compared, mut bounded) = (0, 0);
    for line in cases().iter().step_by(10) {
        let case = Node::parse(line).unwrap();
        let source = &line[case.get("template").unwrap().span.clone()];
        let template = Template::parse(source).unwrap();
        let Some(known) = explored(&template, source) else {
            bounded += 1;
            continue;
        };
        let input = case.get("input").map(Node::to_value).unwrap_or_default();
        let mut simulation = Simulation::start(&template, input);
        let steps = case.get("steps").unwrap().elements().unwrap();
        for at in 0..=steps.len() {
            let seen = simulation.observe();
            let name = case.get("name").unwrap().to_value();
            assert!(known.contains(&seen.configuration), "{name}: {:?}", seen.configuration);
            compared += 1;
            let Some(step) = steps.get(at) else { break };
            if let Some(by_ms) = step.get("after_ms").and_then(|node| node.to_value().as_int()) {
                simulation.advance(by_ms).unwrap();
            }
            if let Some(event) = step.get("event") {
                let name = event.get("name").unwrap().as_str().unwrap();
                let data = event.get("data").map(Node::to_value).unwrap_or_default();
                simulation.deliver(&name.parse().unwrap(), data).unwrap();
            }
        }
    }
    assert!(compared > 50, "{compared} compared, {bounded} beyond the bound");
}
