//! Holds the arrows between the crates, and keeps the engine pure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// Which of our crates each of them may name.
const ARROWS: [(&str, &[&str]); 9] = [
    ("pled-engine", &[]),
    ("pled-authoring", &["pled-engine"]),
    ("pled-streams", &["pled-engine"]),
    ("pled-workers", &["pled-engine", "pled-streams"]),
    ("pled-operations", &["pled-engine", "pled-streams"]),
    ("pled-ledger", &["pled-engine", "pled-streams"]),
    ("pled-api", &["pled-engine", "pled-streams", "pled-ledger"]),
    ("pled-harness", &[]),
    (
        "pled",
        &[
            "pled-engine",
            "pled-authoring",
            "pled-streams",
            "pled-workers",
            "pled-operations",
            "pled-ledger",
            "pled-api",
        ],
    ),
];

/// Which more of our crates the tests of each may name: what a gateway answers is what an engine
/// does, and what an operator looks at is what it has done, so their tests run one.
const IN_TESTS: [(&str, &[&str]); 2] =
    [("pled-api", &["pled-workers"]), ("pled-operations", &["pled-workers"])];

/// Outside crates that only some of ours may name, so that what they do has one home.
const HOMES: [(&str, &[&str]); 3] = [
    ("async-nats", &["pled-streams", "pled-harness"]),
    ("sqlx", &["pled-ledger"]),
    ("axum", &["pled-api"]),
];

/// What a replay could not repeat, the words that give it away, and what to do in its place.
const IMPURE: [(&str, &[&str], &str); 4] = [
    ("a clock", &["SystemTime", "Instant"], "take the time as an argument"),
    (
        "randomness",
        &["rand", "getrandom", "fastrand", "uuid", "RandomState"],
        "derive it by hashing the execution, the entry's sequence and an index",
    ),
    (
        "the outside world",
        &[
            "std::fs",
            "std::net",
            "std::env",
            "std::thread",
            "std::process",
            "tokio",
            "async",
            "await",
            "println",
            "eprintln",
        ],
        "return it as a value, and let streams/ or workers/ act on it",
    ),
    ("an unordered map", &["HashMap", "HashSet"], "use BTreeMap or BTreeSet"),
];

#[test]
fn the_arrows_between_the_crates_point_one_way() {
    let wrong = wrong_arrows(&workspace());

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_engine_names_nothing_that_a_replay_could_not_repeat() {
    let wrong: Vec<String> = rust_files(&root().join("engine/src"))
        .into_iter()
        .flat_map(|file| {
            let source = fs::read_to_string(&file).expect("read a source file");
            impure(&source).into_iter().map(move |found| format!("{}: {found}", file.display()))
        })
        .collect();

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_arrow_that_points_up_is_found() {
    let package = |name: &str, named: &[&str]| Package {
        name: name.into(),
        dependencies: named
            .iter()
            .map(|name| Dependency { name: (*name).into(), kind: None, features: Vec::new() })
            .collect(),
    };
    let dev = |mut package: Package| {
        package.dependencies.iter_mut().for_each(|named| named.kind = Some("dev".into()));
        package
    };

    for wrong in [
        package("pled-engine", &["pled-streams"]),
        dev(package("pled-engine", &["pled-harness"])),
        package("pled-streams", &["pled-harness"]),
        package("pled-ledger", &["pled-workers"]),
        dev(package("pled-ledger", &["pled-workers"])),
        package("pled-api", &["pled-workers"]),
        package("pled-workers", &["async-nats"]),
        dev(package("pled", &["sqlx"])),
        package("pled-new", &[]),
    ] {
        assert_eq!(wrong_arrows(std::slice::from_ref(&wrong)).len(), 1, "{wrong:?}");
    }
    let mut mutated = package("pled-workers", &["pled-engine"]);
    mutated.dependencies[0].features = vec!["mutations".into()];
    assert_eq!(wrong_arrows(&[mutated]).len(), 1);
    for right in [
        package("pled-api", &["pled-ledger", "axum", "serde"]),
        dev(package("pled-engine", &["pled-engine"])),
        dev(package("pled-workers", &["pled-harness"])),
        dev(package("pled-api", &["pled-workers"])),
    ] {
        assert_eq!(wrong_arrows(&[right]), Vec::<String>::new());
    }
}

#[test]
fn each_impurity_is_found_in_code_and_in_code_alone() {
    for wrong in [
        "let now = std::time::SystemTime::now();",
        "use std::{collections::BTreeMap, time::{Duration, Instant}};",
        "use std::{collections::{BTreeMap, BTreeSet}, fs};",
        "use std :: env;",
        "let quote = '\"'; std::thread::spawn(run); // \"",
        "let path = r#\"a \" b\"#; rand::random::<u8>()",
        "async fn step() {}",
        "#[cfg(test)] mod tests { fn f() {} } struct S(HashMap<u8, u8>);",
        "#[cfg(test)] mod tests; use std::collections::HashSet;",
    ] {
        assert_eq!(impure(wrong).len(), 1, "{wrong}: {:?}", impure(wrong));
    }
    for right in [
        "/// A HashMap would do /* not */ here.",
        "/* Instant /* nested */ tokio */ struct S;",
        "const WORDS: &str = \"an \\\" Instant\"; const RAW: &[u8] = br\"tokio\";",
        "fn operand<'async>(operand: &'async str) -> char { 'a' }",
        "use std::collections::{BTreeMap, BTreeSet}; use std::time::Duration;",
        "#[cfg(test)] mod tests { use std::{env, fs}; mod deeper { use std::net; } }",
    ] {
        assert_eq!(impure(right), Vec::<String>::new(), "{right}");
    }
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    #[serde(default)]
    features: Vec<String>,
}

/// The packages of the workspace as cargo reads their Cargo.toml files.
fn workspace() -> Vec<Package> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }

    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo speaks JSON");
    assert!(metadata.packages.len() >= ARROWS.len(), "a crate of ARROWS is gone");
    metadata.packages
}

fn wrong_arrows(packages: &[Package]) -> Vec<String> {
    packages.iter().flat_map(wrong_arrows_of).collect()
}

fn wrong_arrows_of(package: &Package) -> Vec<String> {
    let name = &package.name;
    let Some((_, below)) = ARROWS.iter().find(|(known, _)| known == name) else {
        return vec![format!("{name} has no place yet: add it to ARROWS in tests/layers.rs")];
    };
    let wrong = |dependency: &Dependency| {
        let named = dependency.name.as_str();
        let in_tests = dependency.kind.as_deref() == Some("dev");
        let asks_for_mutations = dependency.features.iter().any(|asked| asked == "mutations");
        if asks_for_mutations && !(in_tests && named == name) {
            return Some(format!(
                "{name} may not ask {named} for mutations: the engine's tests do"
            ));
        }
        let is_harness = in_tests && named == "pled-harness" && name != "pled-engine";
        let is_for_tests = in_tests
            && IN_TESTS
                .iter()
                .any(|(crate_name, more)| crate_name == name && more.contains(&named));
        // By itself a crate asks for what its tests alone may have.
        let is_itself = in_tests && named == name;
        let is_ours = ARROWS.iter().any(|(known, _)| *known == named);
        if is_ours && !below.contains(&named) && !is_harness && !is_for_tests && !is_itself {
            return Some(format!(
                "{name} may not name {named}: move what it needs into a crate below both, or hand \
                 it over in src/ where all crates meet"
            ));
        }
        let (_, homes) = HOMES.iter().find(|(known, _)| *known == named)?;
        (!homes.contains(&name.as_str())).then(|| {
            format!(
                "{name} may not name {named}: its home is {}, add what is missing there",
                homes[0]
            )
        })
    };
    package.dependencies.iter().filter_map(wrong).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("read a source folder") {
        let path = entry.expect("read a source folder").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    assert!(!files.is_empty(), "no sources in {}", folder.display());
    files
}

/// A sentence for each impure word in the code, once each. Tests may do as they like.
fn impure(source: &str) -> Vec<String> {
    let names = names(&without_tests(tokens(source)));
    IMPURE
        .iter()
        .flat_map(|(what, words, instead)| words.iter().map(move |word| (what, word, instead)))
        .filter(|(_, word, _)| names.iter().any(|name| name == *word))
        .map(|(what, word, instead)| format!("`{word}` is {what}: {instead}"))
        .collect()
}

/// Every word by itself, and `std::<module>` for each module of `std` that is named, also in braces.
fn names(tokens: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
    for (at, window) in tokens.windows(4).enumerate() {
        match window {
            ["std", ":", ":", "{"] => {
                let modules = first_of_each(&tokens[at + 4..]);
                names.extend(modules.into_iter().map(|module| format!("std::{module}")));
            }
            ["std", ":", ":", module] => names.push(format!("std::{module}")),
            _ => {}
        }
    }
    names
}

/// The first word of each item between commas, up to the brace that closes the group.
fn first_of_each<'a>(group: &[&'a str]) -> Vec<&'a str> {
    let (mut depth, mut is_first, mut found) = (1, true, Vec::new());
    for token in group {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            word if is_first && depth == 1 => found.push(word),
            _ => {}
        }
        is_first = *token == ",";
        if depth == 0 {
            break;
        }
    }
    found
}

/// Takes out each item under `#[cfg(test)]`, up to its `;` or its closing brace.
fn without_tests(tokens: Vec<&str>) -> Vec<&str> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

    let mut kept = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    while let Some((token, behind)) = rest.split_first() {
        if rest.starts_with(&MARK) {
            rest = behind_item(&rest[MARK.len()..]);
        } else {
            kept.push(*token);
            rest = behind;
        }
    }
    kept
}

fn behind_item<'a, 'b>(tokens: &'a [&'b str]) -> &'a [&'b str] {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(*token, ";" | "}") {
            return &tokens[at + 1..];
        }
    }
    &[]
}

/// The words and signs of Rust source, without its comments and literals.
fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(skipped) = comment(rest).or_else(|| literal(rest)) {
            rest = &rest[skipped..];
            continue;
        } else if is_word(first) {
            rest.find(|character| !is_word(character)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    tokens
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The length of the comment that `rest` begins with.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let mut depth = 0;
    let mut at = 0;
    loop {
        let ahead = rest.get(at..at + 2);
        match ahead {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            _ if depth == 0 => return None,
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 || at >= rest.len() {
            return Some(at.min(rest.len()));
        }
    }
}

/// The length of the string or character that `rest` begins with.
fn literal(rest: &str) -> Option<usize> {
    let bare = ["br", "cr", "r", "b", "c", ""].iter().find_map(|prefix| {
        let bare = rest.strip_prefix(prefix)?;
        bare.starts_with(['"', '#']).then_some((bare, prefix.ends_with('r')))
    });
    match bare {
        Some((bare, true)) => {
            let fence = bare.find(|character| character != '#')?;
            let inside = bare[fence..].strip_prefix('"')?;
            let end = format!("\"{}", &bare[..fence]);
            let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
            Some(rest.len() - inside.len() + length)
        }
        Some((bare, false)) => {
            let inside = bare.strip_prefix('"')?;
            Some(rest.len() - inside.len() + behind_quote(inside, '"'))
        }
        None => {
            // A quote that no other quote follows begins a lifetime, whose name is no name of ours.
            let inside = rest.strip_prefix('\'')?;
            let mut characters = inside.chars();
            if characters.next() == Some('\\') || characters.next() == Some('\'') {
                return Some(1 + behind_quote(inside, '\''));
            }
            Some(1 + inside.find(|character| !is_word(character)).unwrap_or(inside.len()))
        }
    }
}

/// The length up to and with the first `quote` that no backslash takes its meaning.
fn behind_quote(inside: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in inside.char_indices() {
        if character == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = character == '\\' && !is_escaped;
    }
    inside.len()
}
