//! Where everything of a chart stands: each compound state is a sheet of its own, laid out in
//! layers, and a box on the sheet of its parent.
//!
//! An arrow between states of different parents belongs to the innermost state that holds both
//! ends, and its label stands there; on the way it passes the borders of the states between at
//! ports. Ranks are decided from the outside in, since whether an arrow leaves a state at its top
//! or at its bottom is decided outside; sizes then come from the inside out.

use pled_engine::template::{StateIndex, StateKind, Template};

use super::diagram::{Arrow, Diagram, Start, position};
use super::layered::{Ends, Graph, Pin, Placed, Ranked, Size, real};
use super::text::{self, cut, wrap};

/// The height of a line of text.
pub(super) const LINE: f64 = 16.0;
/// The room around the text of a box.
pub(super) const PAD: f64 = 10.0;
/// The height of a state's title.
pub(super) const TITLE: f64 = 22.0;
/// The size of the dot from which the initial state is entered.
pub(super) const DOT: f64 = 12.0;
/// The size of a history state.
pub(super) const HISTORY: f64 = 26.0;
/// The room before the title of a final state, for its mark.
pub(super) const MARK: f64 = 22.0;
/// The room between the border of a compound state and what it holds.
const INSIDE: f64 = 18.0;
/// How long a line of text may be, in characters.
const BOX_CHARS: usize = 46;
const LABEL_CHARS: usize = 30;

/// A rectangle.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Where everything stands.
pub(super) struct Sketch {
    pub(super) width: f64,
    pub(super) height: f64,
    /// Of each state.
    pub(super) states: Vec<Rect>,
    /// The centres of the initial dots.
    pub(super) dots: Vec<(f64, f64)>,
    /// Lines between regions: x, from y, to y.
    pub(super) separators: Vec<(f64, f64, f64)>,
    /// Of each arrow.
    pub(super) arrows: Vec<ArrowSketch>,
}

/// Where an arrow and its label stand.
#[derive(Clone, Debug, Default)]
pub(super) struct ArrowSketch {
    /// Lines of points, each to be drawn as one; those that are marked end in an arrowhead.
    pub(super) routes: Vec<(Vec<(f64, f64)>, bool)>,
    /// The label's place and its lines.
    pub(super) label: Option<(Rect, Vec<LabelLine>)>,
}

/// A line of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelLine {
    pub(super) text: String,
    pub(super) is_event: bool,
}

/// Something on a sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    State(StateIndex),
    Dot,
    /// The label of an arrow.
    Label(usize),
    /// Where a route passes the border.
    Port,
}

/// What a state holds.
#[derive(Default)]
struct Sheet {
    items: Vec<Item>,
    graph: Graph,
    /// Of each line: the state on the sheet that its route enters further, at either end.
    lines: Vec<Line>,
    ranked: Option<Ranked>,
    placed: Placed,
    sizes: Vec<Size>,
}

/// A line of a sheet: a part of a route.
#[derive(Clone, Copy, Debug)]
struct Line {
    route: usize,
    /// The port on the sheet of the state at which it begins, if it comes from further inside.
    from_port: Option<usize>,
    to_port: Option<usize>,
}

/// An arrow from one end to a label, from a label to an end, or from end to end.
struct Route {
    arrow: usize,
    /// The innermost states at its ends, where these are not a label.
    from: Option<StateIndex>,
    to: Option<StateIndex>,
    /// Its lines from the beginning to the end: sheet and line.
    before: Vec<(StateIndex, usize)>,
    after: Vec<(StateIndex, usize)>,
}

/// The chart while it is laid out.
struct Layout<'d> {
    diagram: &'d Diagram<'d>,
    template: &'d Template,
    sheets: Vec<Sheet>,
    /// The place of each state on its parent's sheet.
    items: Vec<usize>,
    routes: Vec<Route>,
    labels: Vec<Vec<LabelLine>>,
}

impl Sketch {
    pub(super) fn of(diagram: &Diagram<'_>) -> Self {
        let template = diagram.template;
        let mut layout = Layout {
            diagram,
            template,
            sheets: template.states.iter().map(|_| Sheet::default()).collect(),
            items: vec![0; template.states.len()],
            routes: Vec::new(),
            labels: diagram.arrows.iter().map(label).collect(),
        };
        layout.lay_out_items();
        for (index, arrow) in diagram.arrows.iter().enumerate() {
            layout.lay_out(index, arrow);
        }
        let states = 0..=template.state(0).last;
        for state in states.clone() {
            layout.rank(state);
        }
        for state in states.rev() {
            layout.place(state);
        }
        layout.sketch()
    }
}

impl Sheet {
    fn add(&mut self, item: Item, pin: Pin) -> usize {
        self.items.push(item);
        self.graph.boxes.push(pin);
        self.items.len() - 1
    }

    fn connect(&mut self, from: usize, to: usize, route: usize) -> usize {
        self.graph.lines.push((from, to));
        self.lines.push(Line { route, from_port: None, to_port: None });
        self.lines.len() - 1
    }
}

impl Layout<'_> {
    fn sheet(&mut self, state: StateIndex) -> &mut Sheet {
        &mut self.sheets[position(state)]
    }

    fn lay_out_items(&mut self) {
        for (index, state) in (0..).zip(&self.template.states) {
            if matches!(state.kind, StateKind::Compound { .. }) {
                self.sheet(index).add(Item::Dot, Pin::Free);
            }
            for child in &state.children {
                self.items[position(*child)] =
                    self.sheet(index).add(Item::State(*child), Pin::Free);
            }
        }
    }

    /// Puts an arrow on the sheet of the innermost state that holds all its ends.
    fn lay_out(&mut self, index: usize, arrow: &Arrow) {
        let from = match arrow.from {
            Start::State(state) => Some(state),
            Start::Initial(_) => None,
        };
        let owner = match arrow.from {
            Start::Initial(state) => state,
            Start::State(state) => arrow
                .to
                .iter()
                .fold(state, |owner, target| self.template.common_ancestor(owner, *target)),
        };
        let begin = match from {
            None => 0,
            Some(state) if state == owner => self.sheet(owner).add(Item::Port, Pin::First),
            Some(state) => self.item_towards(owner, state),
        };
        let ends: Vec<(usize, StateIndex)> = arrow
            .to
            .iter()
            .map(|target| {
                let item = if *target == owner {
                    self.sheet(owner).add(Item::Port, Pin::Last)
                } else {
                    self.item_towards(owner, *target)
                };
                (item, *target)
            })
            .collect();
        match &*ends {
            [(end, target)] if self.labels[index].is_empty() => {
                self.add_route(owner, index, (begin, from), (*end, Some(*target)));
            }
            _ => {
                let label = self.sheet(owner).add(Item::Label(index), Pin::Between);
                self.add_route(owner, index, (begin, from), (label, None));
                for (end, target) in ends {
                    self.add_route(owner, index, (label, None), (end, Some(target)));
                }
            }
        }
    }

    /// The item on the sheet of `holder` that is or holds `state`.
    fn item_towards(&self, holder: StateIndex, state: StateIndex) -> usize {
        self.items[position(self.child_towards(holder, state))]
    }

    fn child_towards(&self, holder: StateIndex, state: StateIndex) -> StateIndex {
        let mut child = state;
        while let Some(parent) = self.template.state(child).parent.filter(|it| *it != holder) {
            child = parent;
        }
        child
    }

    fn add_route(
        &mut self,
        owner: StateIndex,
        arrow: usize,
        (begin, from): (usize, Option<StateIndex>),
        (end, to): (usize, Option<StateIndex>),
    ) {
        let route = self.routes.len();
        let line = self.sheet(owner).connect(begin, end, route);
        self.routes.push(Route { arrow, from, to, before: Vec::new(), after: vec![(owner, line)] });
    }

    /// Ranks a sheet, and leads its routes on into the states in which they begin and end.
    fn rank(&mut self, state: StateIndex) {
        if self.template.state(state).children.is_empty() {
            return;
        }
        let ranked = self.sheet(state).graph.rank();
        for line in 0..ranked.upwards.len() {
            let sheet = &self.sheets[position(state)];
            let (from, to) = sheet.graph.lines[line];
            let (from, to) = (sheet.items[from], sheet.items[to]);
            let Line { route, .. } = sheet.lines[line];
            let upwards = ranked.upwards[line];
            let ends = (self.routes[route].from, self.routes[route].to);
            if let (Item::State(inside), Some(source)) = (from, ends.0)
                && inside != source
                && self.template.is_descendant(source, inside)
            {
                let pin = if upwards { Pin::First } else { Pin::Last };
                let item = self.item_towards(inside, source);
                let port = self.sheet(inside).add(Item::Port, pin);
                let inner = self.sheet(inside).connect(item, port, route);
                self.routes[route].before.push((inside, inner));
                self.sheet(state).lines[line].from_port = Some(port);
            }
            if let (Item::State(inside), Some(target)) = (to, ends.1)
                && inside != target
                && self.template.is_descendant(target, inside)
            {
                let pin = if upwards { Pin::Last } else { Pin::First };
                let item = self.item_towards(inside, target);
                let port = self.sheet(inside).add(Item::Port, pin);
                let inner = self.sheet(inside).connect(port, item, route);
                self.routes[route].after.push((inside, inner));
                self.sheet(state).lines[line].to_port = Some(port);
            }
        }
        self.sheet(state).ranked = Some(ranked);
    }

    /// Places what a state holds; its descendants are placed already.
    fn place(&mut self, state: StateIndex) {
        let Some(ranked) = self.sheet(state).ranked.take() else { return };
        let sheet = &self.sheets[position(state)];
        let mut sizes: Vec<Size> = sheet.items.iter().map(|item| self.size(*item)).collect();
        if matches!(self.template.state(state).kind, StateKind::Parallel) {
            let height = |size: &Size| size.height;
            let regions = sizes.iter().zip(&sheet.items);
            let regions = regions.filter(|(_, item)| self.is_region(**item));
            let tallest = regions.map(|(size, _)| height(size)).fold(0.0, f64::max);
            for (size, item) in sizes.iter_mut().zip(&sheet.items) {
                if self.is_region(*item) {
                    size.height = tallest;
                }
            }
        }
        let ends = sheet.graph.lines.iter().zip(&sheet.lines).map(|((from, to), line)| Ends {
            from: line.from_port.and_then(|port| self.port(sheet.items[*from], port)),
            to: line.to_port.and_then(|port| self.port(sheet.items[*to], port)),
        });
        let ends: Vec<Ends> = ends.collect();
        let placed = ranked.place(&sizes, &ends);
        let sheet = self.sheet(state);
        sheet.placed = placed;
        sheet.sizes = sizes;
        sheet.ranked = Some(ranked);
    }

    /// Whether it is a state of a parallel one that can be active.
    fn is_region(&self, item: Item) -> bool {
        matches!(item, Item::State(state)
            if !matches!(self.template.state(state).kind, StateKind::History { .. }))
    }

    fn size(&self, item: Item) -> Size {
        match item {
            Item::State(state) => self.size_of_state(state),
            Item::Dot => Size { width: DOT, height: DOT },
            Item::Port => Size { width: 2.0, height: 0.0 },
            Item::Label(arrow) => {
                let lines = &self.labels[arrow];
                let width = lines
                    .iter()
                    .map(|line| text::width(&line.text, line.is_event))
                    .fold(0.0, f64::max);
                let height = real(lines.len()) * LINE;
                let (width, height) =
                    if lines.is_empty() { (4.0, 0.0) } else { (width + 8.0, height + 4.0) };
                Size { width, height }
            }
        }
    }

    fn size_of_state(&self, state: StateIndex) -> Size {
        if matches!(self.template.state(state).kind, StateKind::History { .. }) {
            return Size { width: HISTORY, height: HISTORY };
        }
        let header = self.header(state);
        let sheet = &self.sheets[position(state)];
        if sheet.items.is_empty() {
            return Size { width: header.width.max(56.0), height: header.height };
        }
        Size {
            width: header.width.max(sheet.placed.width + 2.0 * INSIDE),
            height: header.height + sheet.placed.height + 2.0 * INSIDE,
        }
    }

    /// The size of a state's title and lines.
    fn header(&self, state: StateIndex) -> Size {
        let view = &self.diagram.states[position(state)];
        let mark = match self.template.state(state).kind {
            StateKind::Final => MARK,
            StateKind::Atomic
            | StateKind::Compound { .. }
            | StateKind::Parallel
            | StateKind::History { .. } => 0.0,
        };
        let title = text::width(&title(&view.title), true) + mark;
        let shown: Vec<String> = view.lines.iter().flat_map(|line| box_lines(&line.text)).collect();
        let lines = shown.iter().map(|line| text::width(line, false));
        let below = if shown.is_empty() { 0.0 } else { real(shown.len()) * LINE + 10.0 };
        Size { width: lines.fold(title, f64::max) + 2.0 * PAD, height: TITLE + 2.0 * 4.0 + below }
    }

    /// Where a state's sheet begins, from its top left.
    fn inside(&self, state: StateIndex) -> (f64, f64) {
        let size = self.size_of_state(state);
        let sheet = &self.sheets[position(state)];
        ((size.width - sheet.placed.width) / 2.0, self.header(state).height + INSIDE)
    }

    /// How far from the left of a state one of its ports is.
    fn port(&self, item: Item, port: usize) -> Option<f64> {
        let Item::State(state) = item else { return None };
        let (x, _) = self.sheets[position(state)].placed.boxes.get(port)?;
        Some(self.inside(state).0 + x + 1.0)
    }

    /// Brings all sheets together.
    fn sketch(mut self) -> Sketch {
        let root = self.size_of_state(0);
        let mut states = vec![Rect::default(); self.template.states.len()];
        states[0] = Rect { x: 0.0, y: 0.0, width: root.width, height: root.height };
        let mut origins = vec![(0.0, 0.0); states.len()];
        let mut dots = Vec::new();
        let mut separators = Vec::new();
        let mut arrows = vec![ArrowSketch::default(); self.diagram.arrows.len()];
        for (index, _) in (0..).zip(&self.template.states) {
            let sheet = &self.sheets[position(index)];
            let own = states[position(index)];
            let inside = self.inside(index);
            let origin = (own.x + inside.0, own.y + inside.1);
            origins[position(index)] = origin;
            for ((item, size), (x, y)) in
                sheet.items.iter().zip(&sheet.sizes).zip(&sheet.placed.boxes)
            {
                let rect = Rect {
                    x: origin.0 + x,
                    y: origin.1 + y,
                    width: size.width,
                    height: size.height,
                };
                match item {
                    Item::State(state) => states[position(*state)] = rect,
                    Item::Dot => dots.push((rect.x + DOT / 2.0, rect.y + DOT / 2.0)),
                    Item::Label(arrow) => {
                        let lines = std::mem::take(&mut self.labels[*arrow]);
                        if !lines.is_empty() {
                            arrows[*arrow].label = Some((rect, lines));
                        }
                    }
                    Item::Port => {}
                }
            }
            separators.extend(self.separators(index, &states));
        }
        for route in &self.routes {
            let parts = route.before.iter().rev().chain(&route.after);
            let mut points: Vec<(f64, f64)> = Vec::new();
            for (sheet, line) in parts {
                let origin = origins[position(*sheet)];
                let line = self.sheets[position(*sheet)].placed.lines.get(*line);
                let line = line.into_iter().flatten();
                points.extend(line.map(|(x, y)| (origin.0 + x, origin.1 + y)));
            }
            self.reach_borders(route, &states, &mut points);
            arrows[route.arrow].routes.push((points, route.to.is_some()));
        }
        Sketch { width: root.width, height: root.height, states, dots, separators, arrows }
    }

    /// A route that begins or ends at a state which holds its other end touches that state's
    /// border from inside.
    fn reach_borders(&self, route: &Route, states: &[Rect], points: &mut Vec<(f64, f64)>) {
        let Some((owner, _)) = route.after.first() else { return };
        let rect = states[position(*owner)];
        if route.from == Some(*owner)
            && let Some(first) = points.first().copied()
        {
            points.insert(0, (first.0, rect.y + self.header(*owner).height));
        }
        if route.to == Some(*owner)
            && let Some(last) = points.last().copied()
        {
            points.push((last.0, rect.y + rect.height));
        }
    }

    /// The lines between the regions of a parallel state that stand side by side.
    fn separators(&self, state: StateIndex, states: &[Rect]) -> Vec<(f64, f64, f64)> {
        if !matches!(self.template.state(state).kind, StateKind::Parallel) {
            return Vec::new();
        }
        let regions = self.template.regions(state).map(|region| states[position(region)]);
        let mut regions: Vec<Rect> = regions.collect();
        regions.sort_by(|a, b| a.x.total_cmp(&b.x));
        let beside = |pair: &[Rect]| (pair[0].y - pair[1].y).abs() < 1.0;
        regions
            .windows(2)
            .filter(|pair| beside(pair))
            .map(|pair| {
                let x = f64::midpoint(pair[0].x + pair[0].width, pair[1].x);
                (x, pair[0].y, pair[0].y + pair[0].height)
            })
            .collect()
    }
}

/// A title as it is shown.
pub(super) fn title(text: &str) -> String {
    cut(text, BOX_CHARS)
}

/// What a box says about one thing, as it is shown.
pub(super) fn box_lines(text: &str) -> Vec<String> {
    let mut lines = wrap(text, BOX_CHARS, 2);
    for line in lines.iter_mut().skip(1) {
        line.insert_str(0, "   ");
    }
    lines
}

/// The lines of an arrow's label.
fn label(arrow: &Arrow) -> Vec<LabelLine> {
    let label = &arrow.label;
    let mut lines = Vec::new();
    if !label.event.is_empty() {
        lines.push(LabelLine { text: cut(&label.event, LABEL_CHARS + 4), is_event: true });
    }
    let guard = label.guard.iter().flat_map(|guard| wrap(&format!("[{guard}]"), LABEL_CHARS, 3));
    let actions = match &*label.actions {
        [] => Vec::new(),
        actions => wrap(&format!("/ {}", actions.join("; ")), LABEL_CHARS, 2),
    };
    let rest = guard.chain(actions);
    lines.extend(rest.map(|text| LabelLine { text, is_event: false }));
    lines
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Room for rounding.
    const EPSILON: f64 = 0.01;

    #[test]
    fn nothing_covers_anything_and_what_is_held_lies_inside() {
        let mut sources = vec![
            include_str!("../../../examples/order-fulfilment.json").to_owned(),
            include_str!("../../../examples/approval.json").to_owned(),
        ];
        sources.extend(cases());

        for source in &sources {
            let template = Template::parse(source).unwrap();
            let diagram = Diagram::of(&template);
            let sketch = Sketch::of(&diagram);

            let labels = sketch.arrows.iter().filter_map(|arrow| arrow.label.as_ref());
            let leaves = (0..).zip(&template.states).filter(|(_, state)| state.children.is_empty());
            let leaves = leaves.map(|(index, _)| sketch.states[position(index)]);
            let boxes: Vec<Rect> = leaves.chain(labels.map(|(rect, _)| *rect)).collect();
            for (at, a) in boxes.iter().enumerate() {
                for b in &boxes[at + 1..] {
                    assert!(are_apart(a, b), "{a:?} and {b:?} of {}", template.name);
                }
            }
            for (index, state) in (0..).zip(&template.states).skip(1) {
                let parent = sketch.states[position(state.parent.unwrap())];
                assert!(
                    holds(&parent, &sketch.states[position(index)]),
                    "{} of {}",
                    template.name,
                    state.id
                );
            }
        }
    }

    #[test]
    fn every_arrow_leads_from_its_source_to_its_target() {
        for source in cases() {
            let template = Template::parse(&source).unwrap();
            let diagram = Diagram::of(&template);
            let sketch = Sketch::of(&diagram);

            for (arrow, drawn) in diagram.arrows.iter().zip(&sketch.arrows) {
                let ends = drawn.routes.iter().filter(|(_, has_head)| *has_head);
                let ends: Vec<(f64, f64)> =
                    ends.filter_map(|(points, _)| points.last().copied()).collect();
                assert_eq!(
                    ends.len(),
                    arrow.to.len(),
                    "{} of {}",
                    arrow.label.text(),
                    template.name
                );
                for (target, end) in arrow.to.iter().zip(ends) {
                    let rect = sketch.states[position(*target)];
                    assert!(touches(&rect, end), "{} of {}", arrow.label.text(), template.name);
                }
                if let (Start::State(state), Some((points, _))) = (arrow.from, drawn.routes.first())
                {
                    let rect = sketch.states[position(state)];
                    assert!(
                        touches(&rect, points[0]),
                        "{} of {}",
                        arrow.label.text(),
                        template.name
                    );
                }
            }
        }
    }

    fn cases() -> Vec<String> {
        let packed = include_bytes!("../../../engine/tests/data/statecharts.jsonl.gz");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        let case = |line: &str| {
            let case = pled_engine::template::document::Node::parse(line).unwrap();
            let template = &line[case.get("template").unwrap().span.clone()];
            let head = r#"{"pled":"1.0","version":1,"logic":"pled-logic-1","#;
            template.replacen('{', head, 1)
        };
        text.lines().map(case).collect()
    }

    fn are_apart(a: &Rect, b: &Rect) -> bool {
        a.x + a.width <= b.x + EPSILON
            || b.x + b.width <= a.x + EPSILON
            || a.y + a.height <= b.y + EPSILON
            || b.y + b.height <= a.y + EPSILON
    }

    fn holds(outer: &Rect, inner: &Rect) -> bool {
        outer.x <= inner.x + EPSILON
            && outer.y <= inner.y + EPSILON
            && inner.x + inner.width <= outer.x + outer.width + EPSILON
            && inner.y + inner.height <= outer.y + outer.height + EPSILON
    }

    /// Whether the point is at the rectangle's top or bottom, or below its title from inside.
    fn touches(rect: &Rect, (x, y): (f64, f64)) -> bool {
        let within = rect.x - EPSILON <= x && x <= rect.x + rect.width + EPSILON;
        let inside = rect.y - EPSILON <= y && y <= rect.y + rect.height + EPSILON;
        within && inside
    }
}
