//! The published schema says what the reader of templates does.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use jsonschema::Validator;
use pled_authoring::schema;
use pled_engine::expression;
use pled_engine::template::{Template, fields};
use serde_json::{Value, json};

const ORDER: &str = include_str!("../../examples/order-fulfilment.json");
const APPROVAL: &str = include_str!("../../examples/approval.json");
const REFUSED: &str = include_str!("../../engine/tests/data/refused_templates.txt");

#[test]
fn it_is_a_schema_with_a_description_of_everything() {
    let schema = document();

    jsonschema::meta::validate(&schema).unwrap();
    for (name, part) in schema["$defs"].as_object().unwrap() {
        for (field, about) in part["properties"].as_object().into_iter().flatten() {
            let described = about.get("description").is_some() || about.get("const").is_some();
            let led_on = about.get("$ref").and_then(Value::as_str).map(|place| {
                schema.pointer(place.trim_start_matches('#')).unwrap().get("description").is_some()
            });
            assert!(described || led_on == Some(true) || name == "operation", "{name}/{field}");
        }
    }
}

#[test]
fn it_has_exactly_the_fields_that_the_reader_knows() {
    let schema = document();
    let root: Vec<&str> = fields::ROOT.into_iter().chain(fields::STATE).collect();
    assert_eq!(sorted(&root), members(&schema, ""));
    for (part, known) in [
        ("/$defs/state", &fields::STATE[..]),
        ("/$defs/initial", &fields::INITIAL),
        ("/$defs/transition/else", &fields::TRANSITION),
        ("/$defs/invoke", &fields::INVOKE),
        ("/$defs/each", &fields::EACH),
        ("/$defs/compensation", &fields::COMPENSATION),
        ("/$defs/retry", &fields::RETRY),
        ("/$defs/timeout", &fields::TIMEOUT),
        ("/$defs/limits", &fields::LIMITS),
        ("/$defs/event", &fields::EVENT),
        ("/$defs/rule", &fields::RULE),
        ("/$defs/emit", &fields::EMIT),
        ("/$defs/branch", &fields::BRANCH),
        ("/$defs/action-custom", &fields::CUSTOM_ACTION),
        ("/$defs/action-compensate", &fields::ACTION_ALONE),
        ("/$defs/action-raise/properties/params", &fields::RAISE),
        ("/$defs/action-send/properties/params", &fields::SEND),
        ("/$defs/action-cancel/properties/params", &fields::CANCEL),
        ("/$defs/action-choose/properties/params", &fields::CHOOSE),
        ("/$defs/action-spawn/properties/params", &fields::SPAWN),
        ("/$defs/action-stop/properties/params", &fields::STOP),
    ] {
        assert_eq!(sorted(known), members(&schema, part), "{part}");
    }
    for action in fields::OWN_ACTIONS.into_iter().filter(|action| *action != "compensate") {
        let part = format!("/$defs/action-{action}");
        assert_eq!(sorted(&fields::OWN_ACTION), members(&schema, &part), "{part}");
    }
    let own = schema.pointer("/$defs/action/properties/type/anyOf/0/enum").unwrap();
    assert_eq!(*own, json!(fields::OWN_ACTIONS));
}

#[test]
fn it_has_exactly_the_operators_with_as_many_operands() {
    let (validator, known) = (validator(), names_of_operators());

    for part in ["/$defs/operation", "/$defs/operation-in-mapping"] {
        let mut there = members(&document(), part);
        assert!(there.remove("$literal"), "{part}");
        assert!(there.insert("inState".to_owned()), "{part}");
        assert_eq!(there, known, "{part}");
    }
    for (name, least, most) in expression::operators().filter(|(name, ..)| *name != "inState") {
        for count in 0..6 {
            let takes = (least..=most.unwrap_or(usize::MAX)).contains(&count);
            let operands: Vec<Value> = (0..count).map(|_| json!("context.a")).collect();
            let guard = template(json!({"on": {"X": {"guard": {name: operands}}}}));
            let side =
                template(json!({"entry": [{"type": "assign", "params": {"a": {name: operands}}}]}));
            assert_eq!(validator.is_valid(&guard), takes, "{count} operands of {name} in a guard");
            assert_eq!(validator.is_valid(&side), takes, "{count} operands of {name} in a mapping");
        }
    }
}

#[test]
fn every_template_that_there_is_fits() {
    let validator = validator();
    let mut sources = vec![ORDER.to_owned(), APPROVAL.to_owned()];
    sources.extend(cases());

    for source in sources {
        let template: Value = serde_json::from_str(&source).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&template)
            .map(|error| format!("{}: {error:.200}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", template["id"]);
    }
}

#[test]
fn what_the_reader_takes_fits_however_many_warnings_it_earns() {
    let validator = validator();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/bad");
    let (mut taken, mut caught) = (0, 0);
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let source = std::fs::read_to_string(&file).unwrap();
        let Ok(template) = serde_json::from_str::<Value>(&source) else { continue };
        let (fits, is_taken) = (validator.is_valid(&template), Template::parse(&source).is_ok());
        assert!(fits || !is_taken, "{}", file.display());
        taken += u32::from(is_taken);
        caught += u32::from(!fits);
    }
    assert!(taken >= 40, "{taken} are taken");
    assert!(caught >= 20, "an editor shows {caught} of the mistakes");
}

/// What only a look at other places of the template, at its text, or at the inside of a string
/// tells. All else that the reader refuses, the schema refuses too.
#[test]
fn what_is_refused_does_not_fit_but_where_a_schema_cannot_see_it() {
    let validator = validator();
    let mut unseen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut seen = 0;

    for block in REFUSED.split("\n\n").filter(|block| !block.starts_with('#')) {
        let (members, expected) = block.split_once('\n').unwrap_or((block, ""));
        let source =
            format!(r#"{{"pled":"1.0","logic":"pled-logic-1","id":"t","version":1,{members}}}"#);
        let Ok(template) = serde_json::from_str::<Value>(&source) else { continue };
        let code = expected.split_whitespace().next().unwrap_or_default();
        if validator.is_valid(&template) {
            unseen.entry(code.to_owned()).or_default().push(members);
        } else {
            seen += 1;
        }
    }

    assert!(seen > 70, "{seen}");
    let told: Vec<String> = unseen
        .iter()
        .map(|(code, members)| format!("{code}\n  {}", members.join("\n  ")))
        .collect();
    insta::assert_snapshot!("unseen", told.join("\n"));
}

/// The schema is never stricter than the reader: whatever it refuses is refused there, too.
#[test]
fn no_template_that_is_read_is_refused() {
    let validator = validator();
    let mut sources: Vec<Value> =
        [ORDER, APPROVAL].iter().map(|source| serde_json::from_str(source).unwrap()).collect();
    let kept = cases().into_iter().step_by(20);
    sources.extend(kept.map(|source| serde_json::from_str::<Value>(&source).unwrap()));
    let mut chance = Chance(1);
    let (mut read, mut refused) = (0, 0);

    for _ in 0..400 {
        let mut template = sources[chance.below(sources.len())].clone();
        for _ in 0..=chance.below(2) {
            let pointers = pointers_in(&template);
            let from = template.pointer(&pointers[chance.below(pointers.len())]).unwrap().clone();
            let place = &pointers[chance.below(pointers.len())];
            change(&mut template, place, from, &mut chance);
        }
        let source = template.to_string();
        if Template::parse(&source).is_ok() {
            read += 1;
            let error = validator.validate(&template).err();
            assert!(error.is_none(), "{}\n{source}", error.unwrap());
        } else {
            refused += usize::from(!validator.is_valid(&template));
        }
    }

    assert!(read > 30 && refused > 60, "{read} read, {refused} refused by both");
}

/// Puts `from` at `place`, or takes away what is there, or gives it another key.
fn change(template: &mut Value, place: &str, from: Value, chance: &mut Chance) {
    let Some((parent, key)) = place.rsplit_once('/') else { return };
    let key = key.replace("~1", "/").replace("~0", "~");
    let way = chance.below(4);
    match template.pointer_mut(parent) {
        Some(Value::Object(members)) => match way {
            0 => drop(members.remove(&key)),
            1 => drop(members.insert(format!("{key}x"), from)),
            2 => drop(members.insert(key, json!([from]))),
            _ => drop(members.insert(key, from)),
        },
        Some(Value::Array(elements)) => match (way, key.parse::<usize>()) {
            (0, Ok(at)) => drop(elements.remove(at)),
            (1, _) => elements.push(from),
            (_, Ok(at)) => elements[at] = from,
            _ => {}
        },
        _ => {}
    }
}

fn pointers_in(value: &Value) -> Vec<String> {
    let mut pointers = vec![String::new()];
    let mut at = 0;
    while let Some(pointer) = pointers.get(at).cloned() {
        at += 1;
        let keys: Vec<String> = match value.pointer(&pointer) {
            Some(Value::Object(members)) => members.keys().cloned().collect(),
            Some(Value::Array(elements)) => (0..elements.len()).map(|at| at.to_string()).collect(),
            _ => Vec::new(),
        };
        pointers.extend(
            keys.iter()
                .map(|key| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))),
        );
    }
    pointers
}

/// Numbers from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn names_of_operators() -> BTreeSet<String> {
    expression::operators().map(|(name, ..)| name.to_owned()).collect()
}

fn sorted(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The members that the schema knows at `part`.
fn members(schema: &Value, part: &str) -> BTreeSet<String> {
    let part = schema.pointer(part).unwrap();
    assert_eq!(part["additionalProperties"], json!(false));
    part["properties"].as_object().unwrap().keys().cloned().collect()
}

fn template(members: Value) -> Value {
    let mut template = json!({"pled": "1.0", "logic": "pled-logic-1", "id": "t", "version": 1});
    template.as_object_mut().unwrap().append(&mut members.as_object().unwrap().clone());
    template
}

fn document() -> Value {
    serde_json::from_str(schema::text()).unwrap()
}

fn validator() -> Validator {
    jsonschema::validator_for(&document()).unwrap()
}

/// The templates that are held against XState.
fn cases() -> Vec<String> {
    let packed = include_bytes!("../../engine/tests/data/statecharts.jsonl.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    let head = r#"{"pled":"1.0","version":1,"logic":"pled-logic-1","#;
    let case = |line: &str| {
        let case: Value = serde_json::from_str(line).unwrap();
        case["template"].to_string().replacen('{', head, 1)
    };
    text.lines().map(case).collect()
}
