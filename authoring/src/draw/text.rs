//! How wide a text is, and how it is broken and cut.
//!
//! A picture names no font of its own, so widths are those of a wide common one: a text may take
//! less room in the reader's font, hardly more.

/// The size of text in a state and on a transition, in pixels.
pub(super) const SIZE: f64 = 12.0;

/// The width of `text` in pixels.
pub(super) fn width(text: &str, bold: bool) -> f64 {
    let em: f64 = text.chars().map(em_of).sum();
    em * SIZE * if bold { 1.1 } else { 1.0 }
}

fn em_of(char: char) -> f64 {
    match char {
        'i' | 'j' | 'l' | '\'' | '|' => 0.30,
        'I' | 'f' | 't' | 'r' | '.' | ',' | ':' | ';' | '!' | '(' | ')' | '[' | ']' | '/' | ' '
        | '-' => 0.40,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 0.97,
        'A'..='Z' => 0.71,
        '+' | '<' | '>' | '=' | '~' | '≤' | '≥' | '≠' | '×' => 0.84,
        '\u{0}'..='\u{2ff}' => 0.62,
        '\u{1100}'.. => 1.05,
        _ => 0.75,
    }
}

/// `text` cut to `chars` characters, with a mark where something is left out.
pub(super) fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// `text` in at most `lines` lines of about `chars` characters, broken at spaces, the last one cut
/// where it does not fit.
pub(super) fn wrap(text: &str, chars: usize, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_last = wrapped.len() == lines;
        match wrapped.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= chars => {
                line.push(' ');
                line.push_str(word);
            }
            Some(line) if is_last => {
                line.push_str(" …");
                break;
            }
            _ => wrapped.push(word.to_owned()),
        }
    }
    wrapped.iter().map(|line| cut(line, chars + 2)).collect()
}
