//! Random expressions give the same by `pled-logic-1` and by `jsonlogic-rs`, on what they have in
//! common; where they differ on purpose stands in docs/logic-differences.md.
//!
//! `PLED_DIFFERENTIAL_CASES` says how many (a million, half a minute), and
//! `PLED_DIFFERENTIAL_SEED` which.

use std::fmt::Write as _;

use pled_engine::expression::{Budget, Expression};
use pled_engine::template::diagnostic::Findings;
use pled_engine::template::document::Node;
use pled_engine::value::Value;

#[test]
#[expect(clippy::print_stdout, reason = "the seed of a run is what repeats it")]
fn random_expressions_give_the_same_as_by_jsonlogic_rs() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let cases: u64 = setting("PLED_DIFFERENTIAL_CASES").unwrap_or(1_000_000);
    let seed: u64 = setting("PLED_DIFFERENTIAL_SEED").unwrap_or(1);
    println!("PLED_DIFFERENTIAL_SEED={seed} PLED_DIFFERENTIAL_CASES={cases}");

    let mut values = 0_u64;
    for case in 0..cases {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(case));
        let data = random.data();
        let rule = random.expression(Kind::Any, View::Top, 4);

        let ours = by_pled(&rule, &data);
        let theirs = by_jsonlogic_rs(&rule, &data);

        let agree = match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => is_same(ours, theirs),
            (Err(_), Err(())) => true,
            (Ok(_), Err(())) | (Err(_), Ok(_)) => false,
        };
        assert!(agree, "case {case}: {rule} on {data}:\n{ours:?}\nby jsonlogic-rs {theirs:?}");
        values += u64::from(ours.is_ok());
    }

    println!("{values} of {cases} have a value");
    assert!(values > cases / 2, "too few expressions have a value to say anything");
}

fn by_pled(rule: &str, data: &str) -> Result<Value, String> {
    let node = Node::parse(rule).expect("generated JSON");
    let mut findings = Findings::default();
    let Some(expression) = Expression::compile_any_root(&node, &mut findings) else {
        panic!("{rule} is refused: {:?}", findings.into_found());
    };
    let data = Value::parse(data.as_bytes()).expect("generated JSON");
    let mut budget = Budget { steps: 1_000_000, bytes: 10_000_000 };
    expression.evaluate_any_root(&data, &mut budget).map_err(|error| error.to_string())
}

fn by_jsonlogic_rs(rule: &str, data: &str) -> Result<serde_json::Value, ()> {
    let json = |text: &str| serde_json::from_str(text).expect("generated JSON");
    jsonlogic_rs::apply(&json(rule), &json(data)).map_err(|_| ())
}

/// Whether both are the same, numbers by their value.
fn is_same(ours: &Value, theirs: &serde_json::Value) -> bool {
    match (ours, theirs) {
        (Value::Int(_) | Value::Float(_), serde_json::Value::Number(theirs)) => {
            ours.to_string().parse().ok() == theirs.as_f64()
        }
        (Value::Array(ours), serde_json::Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| is_same(ours, theirs))
        }
        (Value::Object(ours), serde_json::Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .all(|(key, ours)| theirs.get(&**key).is_some_and(|it| is_same(ours, it)))
        }
        (Value::Null, theirs) => theirs.is_null(),
        (Value::Bool(ours), theirs) => theirs == ours,
        (Value::String(ours), theirs) => theirs == &**ours,
        _ => false,
    }
}

/// What an expression gives. Those in brackets may be null, since what they look up may be absent.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Flag,
    /// (Any of the above.)
    Scalar,
    /// (An array of numbers.)
    Numbers,
    /// (An array of texts.)
    Texts,
    /// (An array of objects.)
    Rows,
    /// (Any of the above.)
    Any,
}

/// What `var` sees.
#[derive(Clone, Copy)]
enum View {
    Top,
    Number,
    Text,
    Row,
    Reduce,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn some<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| one(self)).collect()
    }

    fn number(&mut self) -> String {
        match self.below(4) {
            0 => self.pick(&["0", "1", "-1", "2"]).to_owned(),
            1 => format!("{}.{}", self.below(20), self.pick(&["5", "25", "125"])),
            _ => format!("{}{}", self.pick(&["", "-"]), 1 + self.below(100)),
        }
    }

    /// No text that only one of both takes for a number, and none of which `cat` could make one,
    /// as `0x1` and `0b1`.
    fn text(&mut self) -> &'static str {
        self.pick(&["a", "c", "ac", "ca", "acd", "Z", "10", "9", "-3", "2.5", "1e1", "y1", "y-z"])
    }

    fn quoted(&mut self) -> String {
        format!("{:?}", self.text())
    }

    fn flag(&mut self) -> &'static str {
        self.pick(&["true", "false"])
    }

    fn row(&mut self) -> String {
        let qty = self.number();
        let sku = self.quoted();
        let ok = self.flag();
        self.object(&[("qty", qty), ("sku", sku), ("ok", ok.to_owned())])
    }

    /// An object of some of these members, in any case of two, so that it is no operation.
    fn object(&mut self, members: &[(&str, String)]) -> String {
        let mut text = "{\"_\":0".to_owned();
        for (key, value) in members {
            if self.below(5) > 0 {
                let _ = write!(text, ",\"{key}\":{value}");
            }
        }
        text + "}"
    }

    fn data(&mut self) -> String {
        let numbers = self.some(4, Self::number).join(",");
        let texts = self.some(4, Self::quoted).join(",");
        let rows = self.some(3, Self::row).join(",");
        let inner = self.number();
        let inner = self.object(&[("n", inner), ("list", format!("[{numbers}]"))]);
        let members = [
            ("n", self.number()),
            ("m", self.number()),
            ("s", self.quoted()),
            ("t", self.quoted()),
            ("f", self.flag().to_owned()),
            ("z", "null".to_owned()),
            ("numbers", format!("[{numbers}]")),
            ("texts", format!("[{texts}]")),
            ("rows", format!("[{rows}]")),
            ("o", inner),
        ];
        self.object(&members)
    }

    /// An expression of this kind, nested `depth` deep at most.
    fn expression(&mut self, kind: Kind, view: View, depth: usize) -> String {
        if depth == 0 || self.below(8) == 0 {
            return self.leaf(kind, view);
        }
        let depth = depth - 1;
        if self.below(6) == 0 {
            return self.choice(kind, view, depth);
        }
        match kind {
            Kind::Number => self.arithmetic(view, depth),
            Kind::Text => self.words(view, depth),
            Kind::Flag => self.condition(view, depth),
            Kind::Numbers | Kind::Texts | Kind::Rows => self.array(kind, view, depth),
            Kind::Scalar => {
                let kind = self.pick(&[Kind::Number, Kind::Text, Kind::Flag]);
                self.expression(kind, view, depth)
            }
            Kind::Any => {
                let kind = self.pick(&[
                    Kind::Number,
                    Kind::Text,
                    Kind::Flag,
                    Kind::Flag,
                    Kind::Numbers,
                    Kind::Texts,
                    Kind::Rows,
                ]);
                self.expression(kind, view, depth)
            }
        }
    }

    fn leaf(&mut self, kind: Kind, view: View) -> String {
        // `reduce` sees no field that could be an array.
        let is_array = matches!(kind, Kind::Numbers | Kind::Texts | Kind::Rows);
        let literal = self.below(3) == 0 || (is_array && matches!(view, View::Reduce));
        match kind {
            Kind::Number if literal => self.number(),
            Kind::Text if literal => self.quoted(),
            Kind::Flag if literal => self.flag().to_owned(),
            Kind::Scalar if literal => {
                self.pick(&["null", "0", "1", "\"\"", "\"1\"", "true", "false"]).to_owned()
            }
            Kind::Numbers if literal => format!("[{}]", self.some(3, Self::number).join(",")),
            Kind::Texts if literal => format!("[{}]", self.some(3, Self::quoted).join(",")),
            Kind::Rows if literal => "[]".to_owned(),
            Kind::Number => {
                let default = self.number();
                let path = match view {
                    View::Top => self.pick(&["n", "m", "o.n", "numbers.0", "rows.1.qty"]),
                    View::Number => "",
                    View::Text => return default,
                    View::Row => "qty",
                    View::Reduce => self.pick(&["current", "accumulator"]),
                };
                format!(r#"{{"var":["{path}",{default}]}}"#)
            }
            Kind::Text => {
                let default = self.quoted();
                let path = match view {
                    View::Top => self.pick(&["s", "t", "texts.0", "rows.0.sku"]),
                    View::Text => "",
                    View::Row => "sku",
                    View::Number | View::Reduce => return default,
                };
                format!(r#"{{"var":["{path}",{default}]}}"#)
            }
            Kind::Flag => {
                let default = self.flag();
                let path = match view {
                    View::Top => self.pick(&["f", "rows.0.ok"]),
                    View::Row => "ok",
                    View::Number | View::Text | View::Reduce => return default.to_owned(),
                };
                format!(r#"{{"var":["{path}",{default}]}}"#)
            }
            Kind::Scalar => {
                let path = match view {
                    View::Top => self.pick(&["n", "s", "f", "z", "z.deep", "o.n", "nowhere"]),
                    View::Number | View::Text => "",
                    View::Row => self.pick(&["qty", "sku", "ok", "nowhere"]),
                    View::Reduce => self.pick(&["current", "accumulator"]),
                };
                format!(r#"{{"var":"{path}"}}"#)
            }
            Kind::Numbers => self.pick(&[r#"{"var":"numbers"}"#, r#"{"var":"o.list"}"#]).to_owned(),
            Kind::Texts => r#"{"var":"texts"}"#.to_owned(),
            Kind::Rows => r#"{"var":"rows"}"#.to_owned(),
            Kind::Any => {
                let kind = self.pick(&[Kind::Scalar, Kind::Numbers, Kind::Rows]);
                self.leaf(kind, view)
            }
        }
    }

    fn operation(&mut self, name: &str, operands: &[String]) -> String {
        format!("{{\"{name}\":[{}]}}", operands.join(","))
    }

    /// What any kind can be: a branch, or one of several by its truth.
    fn choice(&mut self, kind: Kind, view: View, depth: usize) -> String {
        if self.below(3) == 0 {
            let name = self.pick(&["and", "or"]);
            let operands: Vec<_> =
                (0..=self.below(3)).map(|_| self.expression(kind, view, depth)).collect();
            return self.operation(name, &operands);
        }
        let mut operands = Vec::new();
        for _ in 0..=self.below(2) {
            operands.push(self.expression(Kind::Any, view, depth));
            operands.push(self.expression(kind, view, depth));
        }
        operands.push(self.expression(kind, view, depth));
        self.operation("if", &operands)
    }

    fn arithmetic(&mut self, view: View, depth: usize) -> String {
        // Products of products would pass 2^63, where jsonlogic-rs cuts them.
        let is_product = depth == 0 && !matches!(view, View::Reduce);
        let (name, least, most) = self.pick(&[
            ("+", 1, 3),
            ("-", 1, 2),
            (if is_product { "*" } else { "+" }, 1, 2),
            ("/", 2, 2),
            ("%", 2, 2),
            ("min", 1, 3),
            ("max", 1, 3),
            ("reduce", 3, 3),
        ]);
        if name == "reduce" {
            let source = self.expression(Kind::Numbers, view, depth);
            let body = self.expression(Kind::Number, View::Reduce, depth.min(2));
            let first = self.expression(Kind::Number, view, depth);
            return self.operation(name, &[source, body, first]);
        }
        let count = least + self.below(most - least + 1);
        let operands: Vec<_> = (0..count)
            .map(|_| match self.below(12) {
                0 => format!("{:?}", self.pick(&["10", "9", "-3", "2.5", "1e1"])),
                1 if matches!(name, "+" | "*") => "null".to_owned(),
                2 => self.quoted(),
                _ => self.expression(Kind::Number, view, depth),
            })
            .collect();
        self.operation(name, &operands)
    }

    fn words(&mut self, view: View, depth: usize) -> String {
        if self.below(2) == 0 {
            let operands = self.some(3, |random| {
                let kind = random.pick(&[Kind::Text, Kind::Text, Kind::Flag, Kind::Number]);
                random.expression(kind, view, depth)
            });
            return self.operation("cat", &operands);
        }
        let text = self.expression(Kind::Text, view, depth);
        let mut operands = vec![text, self.pick(&["0", "1", "2", "-1", "-2", "9"]).to_owned()];
        if self.below(2) == 0 {
            operands.push(self.pick(&["0", "1", "2", "-1", "-2", "9"]).to_owned());
        }
        self.operation("substr", &operands)
    }

    fn condition(&mut self, view: View, depth: usize) -> String {
        match self.below(7) {
            0 => {
                let name = self.pick(&["!", "!!"]);
                let operand = self.expression(Kind::Any, view, depth);
                self.operation(name, &[operand])
            }
            1 => {
                let name = self.pick(&["==", "!=", "===", "!=="]);
                let operands = [(); 2].map(|()| self.expression(Kind::Scalar, view, depth));
                self.operation(name, &operands)
            }
            2 => {
                let name = self.pick(&["<", ">"]);
                let operands: Vec<_> = (0..2 + self.below(2))
                    .map(|_| self.expression(Kind::Scalar, view, depth))
                    .collect();
                self.operation(name, &operands)
            }
            3 => {
                let name = self.pick(&["<=", ">="]);
                let operands: Vec<_> = (0..2 + self.below(2))
                    .map(|_| {
                        let kind = self.pick(&[Kind::Number, Kind::Text, Kind::Flag]);
                        self.expression(kind, view, depth)
                    })
                    .collect();
                self.operation(name, &operands)
            }
            4 => {
                let kind = self.pick(&[Kind::Text, Kind::Scalar]);
                let needle = self.expression(kind, view, depth);
                let kind = self.pick(&[Kind::Text, Kind::Numbers, Kind::Texts]);
                let haystack = self.expression(kind, view, depth);
                self.operation("in", &[needle, haystack])
            }
            _ => {
                let name = self.pick(&["all", "some", "none"]);
                let (kind, inner) = self.pick(&ARRAYS);
                let source = self.expression(kind, view, depth);
                let condition = self.expression(Kind::Flag, inner, depth.min(2));
                self.operation(name, &[source, condition])
            }
        }
    }

    fn array(&mut self, kind: Kind, view: View, depth: usize) -> String {
        let is_rows = matches!(kind, Kind::Rows);
        let (inner, element) = if is_rows {
            (View::Row, Kind::Scalar)
        } else if matches!(kind, Kind::Texts) {
            (View::Text, Kind::Text)
        } else {
            (View::Number, Kind::Number)
        };
        match self.below(5) {
            0 => {
                let operands = self.some(3, |random| random.expression(kind, view, depth));
                // Null would become an element.
                let operands: Vec<_> =
                    operands.into_iter().map(|array| format!("{{\"or\":[{array},[]]}}")).collect();
                self.operation("merge", &operands)
            }
            1 if !is_rows => {
                let (source, view_of_source) = self.pick(&ARRAYS);
                let source = self.expression(source, view, depth);
                let body = self.expression(element, view_of_source, depth.min(2));
                self.operation("map", &[source, body])
            }
            2 if matches!((kind, view), (Kind::Texts, View::Top)) => {
                let paths = r#"["n","m","f","o.n","o.list","nowhere","rows"]"#;
                if self.below(2) == 0 {
                    return format!(r#"{{"missing":{paths}}}"#);
                }
                format!(r#"{{"missing_some":[{},{paths}]}}"#, self.below(9))
            }
            _ => {
                let source = self.expression(kind, view, depth);
                let condition = self.expression(Kind::Flag, inner, depth.min(2));
                self.operation("filter", &[source, condition])
            }
        }
    }
}

/// Arrays and what an iterator over them sees.
const ARRAYS: [(Kind, View); 3] =
    [(Kind::Numbers, View::Number), (Kind::Texts, View::Text), (Kind::Rows, View::Row)];
