//! Names of a machine in the forms that a template has.

use pled_engine::expression;

/// A state's key or a delay's name: `[A-Za-z_][A-Za-z0-9_-]*`, at most 64 bytes.
pub(super) fn key(text: &str) -> String {
    let word: String = text.chars().map(|char| if is_word(char) { char } else { '_' }).collect();
    let begins_well = word.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
    let mut word = if begins_well { word } else { format!("s_{word}") };
    word.truncate(64);
    word
}

/// An id: words joined by dots.
pub(super) fn id(text: &str) -> String {
    let mut words = text.split('.').filter(|word| !word.is_empty());
    let first = key(words.next().unwrap_or_default());
    words.fold(first, |id, word| {
        let word: String =
            word.chars().map(|char| if is_word(char) { char } else { '_' }).collect();
        format!("{id}.{word}")
    })
}

/// An event's type or descriptor, in the words of PLED.
pub(super) fn event(text: &str) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("xstate.done.state.", "done.state."),
        ("xstate.done.actor.", "done.invoke."),
        ("xstate.error.actor.", "error.invoke."),
        ("error.platform.", "error.invoke."),
        ("xstate.after.", "after."),
        ("xstate.error.*", "error.*"),
        ("xstate.done.*", "done.*"),
        ("xstate.init", "pled.init"),
    ];
    let told = WORDS.iter().find_map(|(theirs, ours)| Some((ours, text.strip_prefix(theirs)?)));
    let text = told.map_or_else(|| text.to_owned(), |(ours, rest)| format!("{ours}{rest}"));
    if text == "*" {
        return text;
    }
    let (stem, any) = text.strip_suffix(".*").map_or((&*text, ""), |stem| (stem, ".*"));
    let words = stem.split('.').filter(|word| !word.is_empty()).map(|word| {
        word.chars().map(|char| if is_word(char) { char } else { '_' }).collect::<String>()
    });
    format!("{}{any}", words.collect::<Vec<_>>().join("."))
}

/// An action's name: `sendEmail` is `send_email`.
pub(super) fn action(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + 4);
    let mut before = '_';
    for char in text.chars() {
        if char.is_ascii_uppercase() {
            if before.is_ascii_lowercase() || before.is_ascii_digit() {
                name.push('_');
            }
            name.push(char.to_ascii_lowercase());
        } else if char.is_ascii_lowercase() || char.is_ascii_digit() || char == '.' {
            name.push(char);
        } else if !name.ends_with('_') {
            name.push('_');
        }
        before = char;
    }
    let words = name.split('.').map(|word| word.trim_matches('_')).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join(".");
    if name.starts_with(|char: char| char.is_ascii_lowercase()) {
        name
    } else {
        format!("action_{name}")
    }
}

/// Whether an object with this key alone would be an operation.
pub(super) fn is_operator(key: &str) -> bool {
    expression::operators().any(|(name, ..)| name == key)
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == '-'
}
