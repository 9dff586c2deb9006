//! A strict JSON scanner: what both values and templates are read with.
//!
//! `serde_json` is not used at this door for three reasons: it reads an integer beyond 2^64 as a
//! rounded float without a word, it keeps the last of two equal keys, and it tells no positions of
//! what it accepted. Everything here refuses instead (RFC 8259, and I-JSON, RFC 7493).

use std::borrow::Cow;

/// The largest integer that a JSON number carries exactly, 2^53 - 1 (RFC 7493 section 2.2).
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// How deep arrays and objects of a document, as a template, may be nested.
pub const DEPTH_MAX: usize = 128;

/// How deep arrays and objects of what an execution holds may be nested: data from outside and what
/// logic makes. A journal entry holds it some levels down, and must be readable for every JSON
/// reader, of which many stop at 128.
pub const VALUE_DEPTH_MAX: usize = 64;

/// Why a text is not JSON that PLED accepts, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {line}, column {column}")]
pub struct InvalidJson {
    /// Byte offset of the place.
    pub offset: usize,
    /// Line of the place, from 1.
    pub line: usize,
    /// Column of the place in characters, from 1.
    pub column: usize,
    /// What is wrong, as a clause.
    pub reason: String,
}

/// A JSON number as PLED keeps it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integral number within ±[`INTEGER_MAX`], also if it was written `1.0` or `1e2`.
    Int(i64),
    /// Any other finite number.
    Float(f64),
}

/// A cursor over a JSON text that yields its tokens.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Starts at the beginning of `bytes`.
    ///
    /// # Errors
    /// If they are not UTF-8.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, InvalidJson> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(text)),
            Err(error) => {
                let valid = error.valid_up_to();
                let head = String::from_utf8_lossy(&bytes[..valid]);
                Err(place(&head, valid, "not UTF-8".to_owned()))
            }
        }
    }

    /// The byte offset of the next token, white space skipped.
    pub fn offset(&mut self) -> usize {
        self.skip();
        self.at
    }

    /// The byte offset behind the last token.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space, without taking it.
    pub fn peek(&mut self) -> Option<u8> {
        self.skip();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes `byte` if it is next.
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    /// Takes `byte`.
    ///
    /// # Errors
    /// If something else is next.
    pub fn expect(&mut self, byte: u8) -> Result<(), InvalidJson> {
        if self.take(byte) {
            return Ok(());
        }
        Err(match self.peek() {
            None => self.fail(&format!("the text ends where `{}` was expected", char::from(byte))),
            Some(_) => self.fail(&format!("expected `{}`", char::from(byte))),
        })
    }

    /// Takes one of the words `true`, `false` and `null`.
    ///
    /// # Errors
    /// If another word is next.
    pub fn word(&mut self, word: &str) -> Result<(), InvalidJson> {
        self.skip();
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.fail("expected a JSON value"))
    }

    /// Makes sure that nothing but white space is left.
    ///
    /// # Errors
    /// If something is.
    pub fn end(&mut self) -> Result<(), InvalidJson> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fail("text after the end of the value")),
        }
    }

    /// Takes a string and gives its value; without escapes it is borrowed.
    ///
    /// # Errors
    /// For control characters, bad escapes and lone surrogates.
    pub fn string(&mut self) -> Result<Cow<'a, str>, InvalidJson> {
        self.expect(b'"')?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    let plain = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(plain));
                }
                Some(b'\\') => return self.escaped_string(start).map(Cow::Owned),
                Some(0..=0x1f) => return Err(self.fail("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.fail("the text ends inside a string")),
            }
        }
    }

    fn escaped_string(&mut self, start: usize) -> Result<String, InvalidJson> {
        let bytes = self.text.as_bytes();
        let mut value = self.text[start..self.at].to_owned();
        let mut plain = self.at;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    value.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => {
                    value.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    value.push(self.escape()?);
                    plain = self.at;
                }
                Some(0..=0x1f) => return Err(self.fail("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.fail("the text ends inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, InvalidJson> {
        let letter = self.text.as_bytes().get(self.at).copied();
        self.at += 1;
        match letter {
            Some(b'"') => Ok('"'),
            Some(b'\\') => Ok('\\'),
            Some(b'/') => Ok('/'),
            Some(b'b') => Ok('\u{8}'),
            Some(b'f') => Ok('\u{c}'),
            Some(b'n') => Ok('\n'),
            Some(b'r') => Ok('\r'),
            Some(b't') => Ok('\t'),
            Some(b'u') => self.unicode(),
            _ => {
                self.at -= 1;
                Err(self.fail("an unknown escape in a string"))
            }
        }
    }

    fn unicode(&mut self) -> Result<char, InvalidJson> {
        let high = self.hex()?;
        let code = if (0xd800..0xdc00).contains(&high) {
            if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                return Err(self.fail("a lone surrogate in a string"));
            }
            self.at += 2;
            let low = self.hex()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.fail("a lone surrogate in a string"));
            }
            0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
        } else {
            high
        };
        char::from_u32(code).ok_or_else(|| self.fail("a lone surrogate in a string"))
    }

    fn hex(&mut self) -> Result<u32, InvalidJson> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let code = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(code) = code else {
            return Err(self.fail("four hexadecimal digits must follow \\u"));
        };
        self.at += 4;
        Ok(code)
    }

    /// Takes a number.
    ///
    /// An integer beyond ±[`INTEGER_MAX`] is refused in whatever notation, `1e20` as its digits: as
    /// RFC 8785 writes both, they are the same text.
    ///
    /// # Errors
    /// If it is no JSON number, an integer beyond ±[`INTEGER_MAX`] that is less than 1e21, from
    /// which on all numbers are written with an exponent, or not finite.
    pub fn number(&mut self) -> Result<Number, InvalidJson> {
        self.skip();
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |at: &mut usize| {
            let from = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at - from
        };
        if bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        let leading_zero = bytes.get(self.at) == Some(&b'0');
        let whole = digits(&mut self.at);
        if whole == 0 || (leading_zero && whole > 1) {
            self.at = start;
            return Err(self.fail("expected a JSON value"));
        }
        let mut integral = true;
        if bytes.get(self.at) == Some(&b'.') {
            integral = false;
            self.at += 1;
            if digits(&mut self.at) == 0 {
                return Err(self.fail("digits must follow the decimal point"));
            }
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            integral = false;
            self.at += 1;
            if matches!(bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(&mut self.at) == 0 {
                return Err(self.fail("digits must follow the exponent"));
            }
        }
        let text = &self.text[start..self.at];
        if integral {
            return match text.parse::<i64>() {
                Ok(int) if (-INTEGER_MAX..=INTEGER_MAX).contains(&int) => Ok(Number::Int(int)),
                _ => {
                    self.at = start;
                    Err(self.fail(LARGE_INTEGER))
                }
            };
        }
        match text.parse::<f64>() {
            Ok(float) if is_written_as_large_integer(float) => {
                self.at = start;
                Err(self.fail(LARGE_INTEGER))
            }
            Ok(float) if float.is_finite() => Ok(Number::from_f64(float)),
            _ => {
                self.at = start;
                Err(self.fail("a number beyond the range of a double"))
            }
        }
    }

    /// An error at the present place.
    #[must_use]
    pub fn fail(&self, reason: &str) -> InvalidJson {
        self.fail_at(self.at, reason)
    }

    /// An error at byte `offset`.
    #[must_use]
    pub fn fail_at(&self, offset: usize, reason: &str) -> InvalidJson {
        place(self.text, offset, reason.to_owned())
    }

    fn skip(&mut self) {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

impl Number {
    /// A finite float, as an integer where it is integral and exact; `-0` is `0`.
    #[must_use]
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "both casts are exact within ±(2^53 - 1), which is checked"
    )]
    pub fn from_f64(float: f64) -> Self {
        if float.fract() == 0.0 && float.abs() <= INTEGER_MAX as f64 {
            Self::Int(float as i64)
        } else {
            Self::Float(float)
        }
    }
}

const LARGE_INTEGER: &str = "an integer beyond 2^53 - 1 is not exact in JSON: carry it as a string";

/// Whether the canonical text of `float` is that of an integer beyond ±[`INTEGER_MAX`]. Beyond
/// 2^53 every float is integral, and from 1e21 on ECMAScript writes an exponent.
fn is_written_as_large_integer(float: f64) -> bool {
    (9_007_199_254_740_992.0..1e21).contains(&float.abs())
}

/// Line and column of byte `offset` in `text`, both from 1, the column in characters.
#[must_use]
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let head = &text[..offset];
    let line_start = head.rfind('\n').map_or(0, |newline| newline + 1);
    let line = head.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, head[line_start..].chars().count() + 1)
}

fn place(text: &str, offset: usize, reason: String) -> InvalidJson {
    let (line, column) = line_and_column(text, offset);
    InvalidJson { offset, line, column, reason }
}
