//! SVG: one file that shows everything by itself.

use std::fmt::Write as _;

use pled_engine::template::{StateIndex, StateKind};

use super::Path;
use super::diagram::{Diagram, position};
use super::layered::real;
use super::place::{ArrowSketch, DOT, LINE, MARK, PAD, Rect, Sketch, TITLE, box_lines, title};
use super::text;

/// The room around the picture.
const MARGIN: f64 = 12.0;
/// How far below the top of a state the line under its title is.
const RULE: f64 = TITLE + 6.0;

/// The look of everything, light and, where the reader prefers it, dark.
const STYLE: &str = "\
svg{--page:#fff;--ink:#1f2937;--soft:#6b7280;--line:#9ca3af;--box:#f9fafb;--hold:#fff;\
--seen:#dbeafe;--seen-line:#2563eb;--now:#fde68a;--now-line:#b45309;\
white-space:pre;font:12px system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif}
@media (prefers-color-scheme:dark){svg{--page:#0f172a;--ink:#e5e7eb;--soft:#9ca3af;\
--line:#64748b;--box:#1e293b;--hold:#111c31;--seen:#1e3a5f;--seen-line:#60a5fa;--now:#5b4300;\
--now-line:#fbbf24}}
.page{fill:var(--page)}text{fill:var(--ink)}
.over text{paint-order:stroke;stroke:var(--hold);stroke-width:5px;stroke-linejoin:round}.t{font-weight:600}.soft{fill:var(--soft)}
.b{fill:var(--box);stroke:var(--line);stroke-width:1.2}.h{fill:var(--hold)}
.rule{stroke:var(--line);stroke-width:1;opacity:.6}.region{stroke-dasharray:5 4;opacity:1}
.a{fill:none;stroke:var(--soft);stroke-width:1.3}.dot{fill:var(--ink)}.ring{fill:none;stroke:var(--ink)}
.head{fill:var(--soft)}.seen>.b{fill:var(--seen);stroke:var(--seen-line)}.seen>.h{fill:var(--hold)}
.seen>.a{stroke:var(--seen-line);stroke-width:2.4}.seen>.head{fill:var(--seen-line)}
.seen>.rule{stroke:var(--seen-line)}.seen>text.e,text.seen{fill:var(--seen-line)}
.now>.b{fill:var(--now);stroke:var(--now-line);stroke-width:2.4}.now>.h{fill:var(--hold)}\
.now>.rule{stroke:var(--now-line)}";

pub(super) fn write(diagram: &Diagram<'_>, path: Option<&Path>) -> String {
    let sketch = Sketch::of(diagram);
    let mut writer = Writer { diagram, sketch: &sketch, path, out: String::new() };
    writer.picture();
    writer.out
}

struct Writer<'d> {
    diagram: &'d Diagram<'d>,
    sketch: &'d Sketch,
    path: Option<&'d Path>,
    out: String,
}

impl Writer<'_> {
    fn picture(&mut self) {
        let (width, height) = (self.sketch.width + 2.0 * MARGIN, self.sketch.height + 2.0 * MARGIN);
        let (width, height) = (number(width), number(height));
        let template = self.diagram.template;
        let name = escape(&format!("{} version {}", template.name, template.version));
        self.line(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title desc\">"
        ));
        self.line(&format!("<title id=\"title\">{name}</title>"));
        let about = self.about();
        self.line(&format!("<desc id=\"desc\">{}</desc>", escape(&about)));
        self.line(&format!("<style>{STYLE}</style>"));
        self.line(&format!("<rect class=\"page\" width=\"{width}\" height=\"{height}\"/>"));
        self.line(&format!("<g transform=\"translate({0} {0})\">", number(MARGIN)));
        let states = 0..=template.state(0).last;
        for state in states.clone() {
            if !self.is_leaf(state) {
                self.holder(state);
            }
        }
        for (x, from, to) in &self.sketch.separators {
            let (x, from, to) = (number(*x), number(*from), number(*to));
            self.line(&format!("<path class=\"rule region\" d=\"M{x} {from}V{to}\"/>"));
        }
        for (x, y) in &self.sketch.dots {
            let (x, y, radius) = (number(*x), number(*y), number(DOT / 2.0));
            self.line(&format!("<circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"));
        }
        // What was taken is drawn above what was not.
        for taken in [false, true] {
            for index in 0..self.sketch.arrows.len() {
                if self.is_taken(self.diagram.arrows[index].transition) == taken {
                    self.arrow(index, taken);
                }
            }
        }
        // Texts of states that hold others stand above the arrows that enter them.
        for state in states {
            self.state(state);
        }
        self.line("</g>");
        self.line("</svg>");
    }

    /// The chart in a sentence or two, for who does not see it.
    fn about(&self) -> String {
        let states = self.diagram.states.len() - 1;
        let transitions = self.diagram.template.transition_count();
        let mut about = format!("A statechart of {states} states and {transitions} transitions.");
        if let Some(path) = self.path {
            let now = path.current.iter().filter(|state| self.is_leaf(**state));
            let now: Vec<&str> =
                now.map(|state| &*self.diagram.template.state(*state).id).collect();
            let _ = write!(about, " The execution is in {}.", now.join(" and "));
        }
        about
    }

    fn is_leaf(&self, state: StateIndex) -> bool {
        self.diagram.template.state(state).children.is_empty()
    }

    /// The frame of a state that holds others.
    fn holder(&mut self, state: StateIndex) {
        let rect = self.sketch.states[position(state)];
        let class = self.class_of(state);
        self.line(&format!("<g{class}>"));
        self.frame(rect, "b h", 10.0);
        self.rule(state, rect);
        self.line("</g>");
    }

    /// A state without those that it holds.
    fn state(&mut self, state: StateIndex) {
        let diagram = self.diagram;
        let rect = self.sketch.states[position(state)];
        let class = self.class_of(state);
        self.line(&format!("<g{class}>"));
        let about = escape(&diagram.states[position(state)].about);
        self.line(&format!("<title>{about}</title>"));
        match &diagram.template.state(state).kind {
            StateKind::History { deep, .. } => self.history(rect, *deep),
            StateKind::Atomic | StateKind::Final => {
                self.frame(rect, "b", 8.0);
                self.rule(state, rect);
                self.text_of(state, rect);
            }
            StateKind::Compound { .. } | StateKind::Parallel => {
                self.line("<g class=\"over\">");
                self.text_of(state, rect);
                self.line("</g>");
            }
        }
        self.line("</g>");
    }

    /// The line between the title of a state and what stands below it.
    fn rule(&mut self, state: StateIndex, rect: Rect) {
        if !self.diagram.states[position(state)].lines.is_empty() {
            let y = number(rect.y + RULE);
            let (from, to) = (number(rect.x), number(rect.x + rect.width));
            self.line(&format!("<path class=\"rule\" d=\"M{from} {y}H{to}\"/>"));
        }
    }

    fn class_of(&self, state: StateIndex) -> &'static str {
        match self.path {
            Some(path) if path.current.contains(&state) => " class=\"now\"",
            Some(path) if path.states.contains(&state) => " class=\"seen\"",
            Some(_) | None => "",
        }
    }

    fn frame(&mut self, rect: Rect, class: &str, radius: f64) {
        let [x, y, width, height] = [rect.x, rect.y, rect.width, rect.height].map(number);
        let radius = number(radius);
        self.line(&format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
             rx=\"{radius}\"/>"
        ));
    }

    fn history(&mut self, rect: Rect, deep: bool) {
        let (x, y) = (rect.x + rect.width / 2.0, rect.y + rect.height / 2.0);
        let radius = number(rect.width / 2.0);
        let (cx, cy) = (number(x), number(y));
        self.line(&format!("<circle class=\"b\" cx=\"{cx}\" cy=\"{cy}\" r=\"{radius}\"/>"));
        let text = if deep { "H*" } else { "H" };
        self.text((x, y + 4.0), "middle", "t", text);
    }

    /// The title of a state and the lines below it.
    fn text_of(&mut self, state: StateIndex, rect: Rect) {
        let diagram = self.diagram;
        let view = &diagram.states[position(state)];
        let is_final = matches!(diagram.template.state(state).kind, StateKind::Final);
        let shown = title(&view.title);
        let baseline = rect.y + 4.0 + TITLE / 2.0 + 4.0;
        let is_leaf = self.is_leaf(state);
        if is_final {
            let start = rect.x + (rect.width - text::width(&shown, true) - MARK) / 2.0;
            let (cx, cy) = (number(start + 8.0), number(baseline - 4.0));
            self.line(&format!("<circle class=\"ring\" cx=\"{cx}\" cy=\"{cy}\" r=\"7\"/>"));
            self.line(&format!("<circle class=\"dot\" cx=\"{cx}\" cy=\"{cy}\" r=\"4\"/>"));
            self.text((start + MARK, baseline), "start", "t", &shown);
        } else if is_leaf && view.lines.is_empty() {
            self.text((rect.x + rect.width / 2.0, baseline), "middle", "t", &shown);
        } else {
            self.text((rect.x + PAD, baseline), "start", "t", &shown);
        }
        let mut y = rect.y + RULE;
        for line in &view.lines {
            let class = if self.is_taken(line.transition) { "seen" } else { "" };
            self.line(&format!("<g><title>{}</title>", escape(&line.text)));
            for shown in box_lines(&line.text) {
                y += LINE;
                self.text((rect.x + PAD, y), "start", class, &shown);
            }
            self.line("</g>");
        }
    }

    fn is_taken(&self, transition: Option<u32>) -> bool {
        self.path.zip(transition).is_some_and(|(path, number)| path.transitions.contains(&number))
    }

    fn arrow(&mut self, index: usize, taken: bool) {
        let (diagram, sketch) = (self.diagram, self.sketch);
        let ArrowSketch { routes, label } = &sketch.arrows[index];
        self.line(if taken { "<g class=\"seen\">" } else { "<g>" });
        let full = diagram.arrows[index].label.text();
        if !full.is_empty() {
            self.line(&format!("<title>{}</title>", escape(&full)));
        }
        for (points, has_head) in routes {
            let Some(drawn) = curve(points, *has_head) else { continue };
            self.line(&format!("<path class=\"a\" d=\"{drawn}\"/>"));
            if *has_head && let Some(head) = head(points) {
                self.line(&format!("<path class=\"head\" d=\"{head}\"/>"));
            }
        }
        if let Some((rect, lines)) = label {
            let x = rect.x + rect.width / 2.0;
            for (place, line) in lines.iter().enumerate() {
                let y = rect.y + 14.0 + real(place) * LINE;
                let class = if line.is_event { "t e" } else { "e" };
                self.text((x, y), "middle", class, &line.text);
            }
        }
        self.line("</g>");
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: &str, class: &str, text: &str) {
        let (x, y) = (number(x), number(y));
        let anchor = match anchor {
            "start" => String::new(),
            _ => format!(" text-anchor=\"{anchor}\""),
        };
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let text = escape(text);
        self.line(&format!("<text x=\"{x}\" y=\"{y}\"{anchor}{class}>{text}</text>"));
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }
}

/// A path through points at which it runs upright.
fn curve(points: &[(f64, f64)], has_head: bool) -> Option<String> {
    let (first, rest) = points.split_first()?;
    let mut drawn = format!("M{} {}", number(first.0), number(first.1));
    let mut before = *first;
    for (place, &(x, y)) in rest.iter().enumerate() {
        // The line ends within its head, which would else be blunt.
        let back = if has_head && place + 1 == rest.len() { 4.0 } else { 0.0 };
        let y = y - back * (y - before.1).signum();
        if (x - before.0).abs() < 0.05 {
            let _ = write!(drawn, "V{}", number(y));
        } else {
            let middle = number(f64::midpoint(before.1, y));
            let (from, to, end) = (number(before.0), number(x), number(y));
            let _ = write!(drawn, "C{from} {middle} {to} {middle} {to} {end}");
        }
        before = (x, y);
    }
    Some(drawn)
}

/// The head at the end of a route.
fn head(points: &[(f64, f64)]) -> Option<String> {
    let [.., before, (x, y)] = points else { return None };
    let down = if *y >= before.1 { 1.0 } else { -1.0 };
    let (tip, base) = (number(*y), number(y - 8.0 * down));
    let (left, right, middle) = (number(x - 4.0), number(x + 4.0), number(*x));
    Some(format!("M{middle} {tip}L{left} {base}H{right}Z"))
}

/// A coordinate to a tenth of a pixel.
fn number(x: f64) -> String {
    let text = format!("{x:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// `text` as character data or an attribute of XML, without what XML cannot hold.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(' '),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(char),
        }
    }
    escaped
}
