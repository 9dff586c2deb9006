//! Expressions as people write them: `amount > 0 and not paid`.

use pled_engine::template::document::{Kind, Node};

/// How tightly an operator binds; what binds less tightly than its surroundings gets brackets.
type Strength = u8;

const CHOICE: Strength = 1;
const OR: Strength = 2;
const AND: Strength = 3;
const COMPARISON: Strength = 4;
const SUM: Strength = 5;
const PRODUCT: Strength = 6;
const NOT: Strength = 7;
const ATOM: Strength = 8;

/// The expression `node` in infix form, on one line. A name without a prefix is a key of the
/// context; one that begins with a dot is a field of the element in an iteration.
pub(super) fn infix(node: &Node) -> String {
    Printer { inner: false }.print(node, 0)
}

/// Prints expressions; in an iteration paths begin at the element.
#[derive(Clone, Copy)]
struct Printer {
    inner: bool,
}

impl Printer {
    fn print(self, node: &Node, outside: Strength) -> String {
        match &node.kind {
            Kind::Null => "null".to_owned(),
            Kind::Bool(flag) => flag.to_string(),
            Kind::Number(_) => node.to_value().to_string(),
            Kind::String(text) => quoted(text),
            Kind::Array(elements) => format!("[{}]", self.list(elements)),
            Kind::Object(members) => match &**members {
                [member] => self.operation(&member.key, &member.value, outside),
                _ => {
                    let members = members
                        .iter()
                        .map(|member| format!("{}: {}", member.key, self.print(&member.value, 0)));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
                }
            },
        }
    }

    fn operation(self, operator: &str, argument: &Node, outside: Strength) -> String {
        let operands = argument.elements().unwrap_or(std::slice::from_ref(argument));
        let (text, strength) = match (operator, operands) {
            ("$literal", _) => (argument.to_value().to_string(), ATOM),
            ("var", [path, default]) => {
                (format!("({} else {})", self.path(path), self.print(default, 0)), ATOM)
            }
            ("var", [path]) => (self.path(path), ATOM),
            ("and", operands) => (self.joined(operands, " and ", AND), AND),
            ("or", operands) => (self.joined(operands, " or ", OR), OR),
            ("!", [operand]) => (format!("not {}", self.print(operand, NOT)), NOT),
            ("!!", [operand]) => return self.print(operand, outside),
            ("==" | "===", operands) => (self.joined(operands, " = ", COMPARISON), COMPARISON),
            ("!=" | "!==", operands) => (self.joined(operands, " ≠ ", COMPARISON), COMPARISON),
            ("<", operands) => (self.joined(operands, " < ", COMPARISON), COMPARISON),
            (">", operands) => (self.joined(operands, " > ", COMPARISON), COMPARISON),
            ("<=", operands) => (self.joined(operands, " ≤ ", COMPARISON), COMPARISON),
            (">=", operands) => (self.joined(operands, " ≥ ", COMPARISON), COMPARISON),
            ("in", operands) => (self.joined(operands, " in ", COMPARISON), COMPARISON),
            ("+", operands) => (self.joined(operands, " + ", SUM), SUM),
            ("-", [operand]) => (format!("-{}", self.print(operand, NOT)), NOT),
            ("-", operands) => (self.joined(operands, " - ", SUM), SUM),
            ("*", operands) => (self.joined(operands, " × ", PRODUCT), PRODUCT),
            ("/", operands) => (self.joined(operands, " / ", PRODUCT), PRODUCT),
            ("%", operands) => (self.joined(operands, " mod ", PRODUCT), PRODUCT),
            ("if", [condition, then, otherwise]) => {
                let [condition, then] = [condition, then].map(|node| self.print(node, OR));
                (format!("{condition} ? {then} : {}", self.print(otherwise, CHOICE)), CHOICE)
            }
            ("inState", [state]) => {
                (format!("in state {}", state.as_str().map_or("?", |id| id)), NOT)
            }
            ("all" | "some" | "none" | "map" | "filter" | "reduce", [over, each, rest @ ..]) => {
                let rest: String =
                    rest.iter().map(|node| format!(", {}", self.print(node, 0))).collect();
                let each = Self { inner: true }.print(each, 0);
                (format!("{operator}({}, {each}{rest})", self.print(over, 0)), ATOM)
            }
            (name, operands) => (format!("{name}({})", self.list(operands)), ATOM),
        };
        if strength < outside { format!("({text})") } else { text }
    }

    /// Operands of which each binds tighter than the operator, so what is nested shows.
    fn joined(self, operands: &[Node], operator: &str, strength: Strength) -> String {
        let inside = if matches!(strength, AND | OR) { strength } else { strength + 1 };
        let operands = operands.iter().map(|operand| self.print(operand, inside));
        operands.collect::<Vec<_>>().join(operator)
    }

    fn list(self, nodes: &[Node]) -> String {
        nodes.iter().map(|node| self.print(node, 0)).collect::<Vec<_>>().join(", ")
    }

    fn path(self, node: &Node) -> String {
        let Some(path) = node.as_str() else { return node.to_value().to_string() };
        match &**path {
            "" => "it".to_owned(),
            path if self.inner && !matches!(root_of(path), "current" | "accumulator") => {
                format!(".{path}")
            }
            path => path.strip_prefix("context.").unwrap_or(path).to_owned(),
        }
    }
}

fn root_of(path: &str) -> &str {
    path.split('.').next().unwrap_or_default()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}
