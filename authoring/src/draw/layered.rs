//! A layered drawing of one level: boxes in ranks from the top to the bottom, lines between them
//! that pass no box.
//!
//! The steps are those of Sugiyama, Tagawa and Toda (1981): break cycles, give each box a rank,
//! let long lines pass each rank at a place of their own, order each rank so that few lines cross,
//! and put everything where its neighbours pull it. Every step is linear, or nearly so, in boxes
//! and passed ranks, and decides ties by the order in which boxes were given, so the same graph
//! gives the same drawing.

use std::collections::BTreeMap;

/// How often the order of ranks is improved, downwards and upwards in turn.
const SWEEPS: usize = 24;
/// How often boxes are drawn towards their neighbours.
const PULLS: usize = 60;
/// The least room between two boxes of a rank, and between a box and a passing line.
const BESIDE: f64 = 26.0;
/// The least room between two lines that pass a rank.
const PASSING: f64 = 14.0;
/// The room between two ranks, for lines to change their place.
const BETWEEN_MIN: f64 = 26.0;
const BETWEEN_MAX: f64 = 60.0;

/// What is to be placed.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) boxes: Vec<Pin>,
    pub(super) lines: Vec<(usize, usize)>,
}

/// What is asked of the rank of a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pin {
    /// Any rank.
    #[default]
    Free,
    /// Any rank, and the lines to and from it are one, so they turn together.
    Between,
    /// The first rank.
    First,
    /// The last rank.
    Last,
}

/// The ranks of a graph, before anything has a size.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    /// Of each box.
    ranks: Vec<usize>,
    /// Of each line: whether it goes from a lower rank to a higher one, which is upwards.
    pub(super) upwards: Vec<bool>,
    lines: Vec<(usize, usize)>,
}

/// The size of a box, and where lines may touch it.
#[derive(Clone, Debug, Default)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Where on its boxes a line ends, from the left edge of each, where that is fixed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    pub(super) from: Option<f64>,
    pub(super) to: Option<f64>,
}

/// A finished drawing, its top left at the origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Placed {
    pub(super) width: f64,
    pub(super) height: f64,
    /// The top left of each box.
    pub(super) boxes: Vec<(f64, f64)>,
    /// Each line from its first box to its second: points at which it runs upright, to be joined
    /// by straight lines within a rank and by curves between ranks.
    pub(super) lines: Vec<Vec<(f64, f64)>>,
}

impl Graph {
    /// Gives each box a rank: lines lead downwards, but for those that close a cycle.
    pub(super) fn rank(&self) -> Ranked {
        let upwards = self.closing_lines();
        let lines: Vec<(usize, usize)> = self
            .lines
            .iter()
            .zip(&upwards)
            .map(|(&(from, to), upwards)| if *upwards { (to, from) } else { (from, to) })
            .collect();
        let ranks = self.longest_paths(&lines);
        Ranked { ranks, upwards, lines }
    }

    /// The lines that lead back to a box from which they come, met going through the graph from
    /// the first boxes on, without recursion, since a chart may be a chain of thousands.
    fn closing_lines(&self) -> Vec<bool> {
        let mut outgoing = vec![Vec::new(); self.boxes.len()];
        let mut incoming = vec![Vec::new(); self.boxes.len()];
        for (line, (from, to)) in self.lines.iter().enumerate() {
            outgoing[*from].push((line, *to));
            incoming[*to].push(line);
        }
        let mut closing = vec![false; self.lines.len()];
        // What leads into the last rank or out of the first one never turns.
        let turns =
            |from: usize, to: usize| self.boxes[to] == Pin::First || self.boxes[from] == Pin::Last;
        for (line, (from, to)) in self.lines.iter().enumerate() {
            closing[line] = turns(*from, *to);
        }
        let mut turned = Vec::new();
        let mut state = vec![0_u8; self.boxes.len()];
        for start in 0..self.boxes.len() {
            if state[start] != 0 {
                continue;
            }
            let mut path = vec![(start, 0)];
            state[start] = 1;
            while let Some((at, next)) = path.last_mut() {
                let Some((line, to)) = outgoing[*at].get(*next).copied() else {
                    state[*at] = 2;
                    path.pop();
                    continue;
                };
                *next += 1;
                if closing[line] {
                    continue;
                }
                match state[to] {
                    0 => {
                        state[to] = 1;
                        path.push((to, 0));
                    }
                    1 => {
                        closing[line] = true;
                        if self.boxes[*at] == Pin::Between {
                            turned.push((*at, to));
                        }
                    }
                    _ => {}
                }
            }
        }
        for (between, to) in turned {
            if outgoing[between].iter().all(|(_, other)| *other == to) {
                let lines =
                    outgoing[between].iter().map(|(line, _)| line).chain(&incoming[between]);
                lines.for_each(|line| closing[*line] = true);
            }
        }
        closing
    }

    /// Each box as high as the lines allow, then those that would stand far above all that they
    /// lead to, closer to it.
    fn longest_paths(&self, lines: &[(usize, usize)]) -> Vec<usize> {
        let count = self.boxes.len();
        let mut outgoing = vec![Vec::new(); count];
        let mut incoming = vec![0_usize; count];
        for (from, to) in lines {
            outgoing[*from].push(*to);
            incoming[*to] += 1;
        }
        let least = |at: usize| usize::from(self.has_first() && self.boxes[at] != Pin::First);
        let mut ranks: Vec<usize> = (0..count).map(least).collect();
        let mut waits = incoming.clone();
        let mut order: Vec<usize> = (0..count).filter(|at| waits[*at] == 0).collect();
        let mut next = 0;
        while let Some(&at) = order.get(next) {
            next += 1;
            for &to in &outgoing[at] {
                ranks[to] = ranks[to].max(ranks[at] + 1);
                waits[to] -= 1;
                if waits[to] == 0 {
                    order.push(to);
                }
            }
        }
        for &at in order.iter().rev() {
            let below = outgoing[at].iter().map(|to| ranks[*to]).min();
            if let Some(below) = below
                && matches!(self.boxes[at], Pin::Free | Pin::Between)
                && outgoing[at].len() >= incoming[at]
            {
                ranks[at] = ranks[at].max(below - 1);
            }
        }
        let has_last = self.boxes.contains(&Pin::Last);
        let free = |at: &usize| self.boxes[*at] != Pin::Last;
        let last = (0..count).filter(free).map(|at| ranks[at] + 1).max().unwrap_or(0);
        for (at, pin) in self.boxes.iter().enumerate() {
            if has_last && *pin == Pin::Last {
                ranks[at] = last;
            }
        }
        ranks
    }

    fn has_first(&self) -> bool {
        self.boxes.contains(&Pin::First)
    }
}

impl Ranked {
    /// Places boxes of these sizes.
    pub(super) fn place(&self, sizes: &[Size], ends: &[Ends]) -> Placed {
        let mut rows = Rows::of(self, sizes, ends);
        rows.order();
        rows.spread_ends();
        rows.pull();
        rows.placed(self)
    }
}

/// One thing in a rank: a box, or the place at which a long line passes.
#[derive(Clone, Debug)]
struct Cell {
    width: f64,
    height: f64,
    rank: usize,
    is_box: bool,
    /// Its centre.
    x: f64,
}

/// A part of a line, from one rank to the next.
#[derive(Clone, Debug)]
struct Link {
    upper: usize,
    lower: usize,
    /// Where it touches each, from the centre.
    upper_at: f64,
    lower_at: f64,
    fixed: (bool, bool),
    weight: f64,
}

/// All ranks.
struct Rows {
    cells: Vec<Cell>,
    rows: Vec<Vec<usize>>,
    links: Vec<Link>,
    /// The links of each line from the top to the bottom.
    lines: Vec<Vec<usize>>,
    /// The links to the rank above and to the one below, of each cell.
    above: Vec<Vec<usize>>,
    below: Vec<Vec<usize>>,
    /// The place of each cell in its row.
    places: Vec<usize>,
}

impl Rows {
    fn of(ranked: &Ranked, sizes: &[Size], ends: &[Ends]) -> Self {
        let mut cells: Vec<Cell> = sizes
            .iter()
            .zip(&ranked.ranks)
            .map(|(size, rank)| Cell {
                width: size.width,
                height: size.height,
                rank: *rank,
                is_box: true,
                x: 0.0,
            })
            .collect();
        let mut links = Vec::new();
        let mut lines = Vec::new();
        for (line, (upper, lower)) in ranked.lines.iter().enumerate() {
            let ends = ends.get(line).copied().unwrap_or_default();
            let (top, bottom) =
                if ranked.upwards[line] { (ends.to, ends.from) } else { (ends.from, ends.to) };
            let mut own = Vec::new();
            let mut at = *upper;
            let (first, last) = (ranked.ranks[*upper], ranked.ranks[*lower]);
            for rank in first + 1..=last {
                let next = if rank == last {
                    *lower
                } else {
                    cells.push(Cell { width: 2.0, height: 0.0, rank, is_box: false, x: 0.0 });
                    cells.len() - 1
                };
                let offset = |cell: usize, end: Option<f64>| {
                    end.map_or(0.0, |end| end - cells[cell].width / 2.0)
                };
                let (from_top, to_bottom) =
                    (top.filter(|_| rank == first + 1), bottom.filter(|_| rank == last));
                let ends_at_boxes = usize::from(cells[at].is_box) + usize::from(cells[next].is_box);
                own.push(links.len());
                links.push(Link {
                    upper: at,
                    lower: next,
                    upper_at: offset(at, from_top),
                    lower_at: offset(next, to_bottom),
                    fixed: (from_top.is_some(), to_bottom.is_some()),
                    weight: [12.0, 3.0, 1.0][ends_at_boxes],
                });
                at = next;
            }
            lines.push(own);
        }
        let depth = cells.iter().map(|cell| cell.rank + 1).max().unwrap_or(0);
        let mut above = vec![Vec::new(); cells.len()];
        let mut below = vec![Vec::new(); cells.len()];
        for (index, link) in links.iter().enumerate() {
            below[link.upper].push(index);
            above[link.lower].push(index);
        }
        let mut rows = Self {
            places: vec![0; cells.len()],
            rows: vec![Vec::new(); depth],
            cells,
            links,
            lines,
            above,
            below,
        };
        rows.first_order();
        rows
    }

    /// Each rank in the order in which a walk downwards from the first boxes meets it.
    fn first_order(&mut self) {
        let mut seen = vec![false; self.cells.len()];
        let mut starts: Vec<usize> = (0..self.cells.len()).collect();
        starts.sort_by_key(|cell| self.cells[*cell].rank);
        for start in starts {
            let mut stack = vec![start];
            while let Some(at) = stack.pop() {
                if std::mem::replace(&mut seen[at], true) {
                    continue;
                }
                self.rows[self.cells[at].rank].push(at);
                stack.extend(self.below[at].iter().rev().map(|link| self.links[*link].lower));
            }
        }
        self.number();
    }

    fn number(&mut self) {
        for row in &self.rows {
            for (place, cell) in row.iter().enumerate() {
                self.places[*cell] = place;
            }
        }
    }

    /// Orders each rank by where its neighbours stand, and keeps the best order that was met.
    fn order(&mut self) {
        let mut best = self.rows.clone();
        let mut fewest = self.crossings();
        for sweep in 0..SWEEPS {
            if fewest == 0 {
                break;
            }
            let downwards = sweep % 2 == 0;
            let depth = self.rows.len();
            for step in 1..depth {
                let rank = if downwards { step } else { depth - 1 - step };
                self.order_row(rank, downwards);
            }
            self.swap_neighbours();
            let crossings = self.crossings();
            if crossings < fewest {
                fewest = crossings;
                best.clone_from(&self.rows);
            }
        }
        self.rows = best;
        self.number();
    }

    fn order_row(&mut self, rank: usize, downwards: bool) {
        let mut keyed: Vec<(f64, usize)> = self.rows[rank]
            .iter()
            .map(|cell| {
                let links = if downwards { &self.above[*cell] } else { &self.below[*cell] };
                let sum: f64 = links.iter().map(|link| self.seat(*link, downwards)).sum();
                let mean = if links.is_empty() {
                    real(self.places[*cell])
                } else {
                    sum / real(links.len())
                };
                (mean, *cell)
            })
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.rows[rank] = keyed.into_iter().map(|(_, cell)| cell).collect();
        for (place, cell) in self.rows[rank].iter().enumerate() {
            self.places[*cell] = place;
        }
    }

    /// Where a link ends in the rank of its upper (or lower) end: the place of the cell, and
    /// within it where the link touches.
    fn seat(&self, link: usize, upper: bool) -> f64 {
        let link = &self.links[link];
        let (cell, at) =
            if upper { (link.upper, link.upper_at) } else { (link.lower, link.lower_at) };
        let width = self.cells[cell].width.max(1.0);
        real(self.places[cell]) + (at / width).clamp(-0.49, 0.49)
    }

    /// Swaps neighbours in a rank where that saves crossings.
    fn swap_neighbours(&mut self) {
        for rank in 0..self.rows.len() {
            for place in 1..self.rows[rank].len() {
                let (left, right) = (self.rows[rank][place - 1], self.rows[rank][place]);
                if self.crossings_of(left, right) > self.crossings_of(right, left) {
                    self.rows[rank].swap(place - 1, place);
                    self.places[left] = place;
                    self.places[right] = place - 1;
                }
            }
        }
    }

    /// How many links of `left` and `right` cross if they stand in that order. Of cells with many
    /// links only some are looked at: what they are is an estimate for a swap.
    fn crossings_of(&self, left: usize, right: usize) -> usize {
        const LINKS_MAX: usize = 24;
        let count = |links: &[Vec<usize>], upper: bool| {
            let right: Vec<f64> =
                links[right].iter().take(LINKS_MAX).map(|link| self.seat(*link, upper)).collect();
            let left = links[left].iter().take(LINKS_MAX).map(|link| self.seat(*link, upper));
            left.map(|left| right.iter().filter(|right| **right < left).count()).sum::<usize>()
        };
        count(&self.above, true) + count(&self.below, false)
    }

    fn crossings(&self) -> usize {
        self.rows.windows(2).map(|rows| self.crossings_between(&rows[0], rows[1].len())).sum()
    }

    /// The crossings below a row: pairs of links whose ends are in the other order, counted with a
    /// tree of sums.
    fn crossings_between(&self, upper: &[usize], places: usize) -> usize {
        let mut links: Vec<(f64, usize)> = upper
            .iter()
            .flat_map(|cell| &self.below[*cell])
            .map(|link| (self.seat(*link, true), self.places[self.links[*link].lower]))
            .collect();
        links.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut tree = vec![0_usize; places + 1];
        let mut crossings = 0;
        for (seen, (_, place)) in links.into_iter().enumerate() {
            let mut not_beyond = 0;
            let mut at = place + 1;
            while at > 0 {
                not_beyond += tree[at];
                at &= at - 1;
            }
            crossings += seen - not_beyond;
            let mut at = place + 1;
            while at <= places {
                tree[at] += 1;
                at += at & at.wrapping_neg();
            }
        }
        crossings
    }

    /// Spreads the links of a box over its edge, in the order of their other ends, so that none
    /// covers another.
    fn spread_ends(&mut self) {
        for cell in 0..self.cells.len() {
            if !self.cells[cell].is_box {
                continue;
            }
            for is_upper in [true, false] {
                let links = if is_upper { &self.below[cell] } else { &self.above[cell] };
                let is_free = |link: &Link| if is_upper { !link.fixed.0 } else { !link.fixed.1 };
                let mut free: Vec<usize> =
                    links.iter().copied().filter(|link| is_free(&self.links[*link])).collect();
                free.sort_by(|a, b| self.seat(*a, !is_upper).total_cmp(&self.seat(*b, !is_upper)));
                let width = self.cells[cell].width;
                let apart = (width / real(free.len() + 1)).min(28.0);
                let middle = real(free.len().saturating_sub(1)) / 2.0;
                for (place, link) in free.into_iter().enumerate() {
                    let at = (real(place) - middle) * apart;
                    let link = &mut self.links[link];
                    if is_upper {
                        link.upper_at = at;
                    } else {
                        link.lower_at = at;
                    }
                }
            }
        }
    }

    /// Puts each cell where its neighbours pull it, as far as the others of its rank let it.
    fn pull(&mut self) {
        for row in &self.rows {
            let mut x = 0.0;
            let mut before: Option<usize> = None;
            for cell in row {
                if let Some(before) = before {
                    x += self.distance(before, *cell);
                }
                self.cells[*cell].x = x;
                before = Some(*cell);
            }
        }
        let depth = self.rows.len();
        for pull in 0..PULLS {
            let both = pull + 4 >= PULLS;
            for step in 0..depth {
                let rank = if pull % 2 == 0 { step } else { depth - 1 - step };
                self.pull_row(rank, both || pull % 2 == 0, both || pull % 2 == 1);
            }
        }
    }

    fn distance(&self, left: usize, right: usize) -> f64 {
        let (left, right) = (&self.cells[left], &self.cells[right]);
        let room = if left.is_box || right.is_box { BESIDE } else { PASSING };
        f64::midpoint(left.width, right.width) + room
    }

    /// The places in one rank that are nearest to where the cells are pulled and keep their
    /// distances: the least squares under an order, by pooling neighbours that are in each
    /// other's way.
    fn pull_row(&mut self, rank: usize, from_above: bool, from_below: bool) {
        struct Pool {
            sum: f64,
            weight: f64,
            cells: usize,
        }
        let row = self.rows[rank].clone();
        let mut shifts = Vec::with_capacity(row.len());
        let mut shift = 0.0;
        let mut pools: Vec<Pool> = Vec::with_capacity(row.len());
        for (place, cell) in row.iter().enumerate() {
            if place > 0 {
                shift += self.distance(row[place - 1], *cell);
            }
            shifts.push(shift);
            let (wanted, weight) = self.wanted(*cell, from_above, from_below);
            pools.push(Pool { sum: (wanted - shift) * weight, weight, cells: 1 });
            while let [.., before, last] = &mut pools[..]
                && before.sum / before.weight > last.sum / last.weight
            {
                before.sum += last.sum;
                before.weight += last.weight;
                before.cells += last.cells;
                pools.pop();
            }
        }
        let placed = pools
            .iter()
            .flat_map(|pool| std::iter::repeat_n(pool.sum / pool.weight, pool.cells))
            .zip(&shifts);
        for (cell, (x, shift)) in row.iter().zip(placed) {
            self.cells[*cell].x = x + shift;
        }
    }

    fn wanted(&self, cell: usize, from_above: bool, from_below: bool) -> (f64, f64) {
        let (mut sum, mut weight) = (0.0, 0.0);
        if from_above {
            for link in self.above[cell].iter().map(|link| &self.links[*link]) {
                let there = self.cells[link.upper].x + link.upper_at;
                sum += (there - link.lower_at) * link.weight;
                weight += link.weight;
            }
        }
        if from_below {
            for link in self.below[cell].iter().map(|link| &self.links[*link]) {
                let there = self.cells[link.lower].x + link.lower_at;
                sum += (there - link.upper_at) * link.weight;
                weight += link.weight;
            }
        }
        if weight == 0.0 { (self.cells[cell].x, 0.05) } else { (sum / weight, weight) }
    }

    fn placed(&self, ranked: &Ranked) -> Placed {
        let left = self
            .cells
            .iter()
            .map(|cell| cell.x - cell.width / 2.0)
            .min_by(f64::total_cmp)
            .unwrap_or(0.0);
        let right = self
            .cells
            .iter()
            .map(|cell| cell.x + cell.width / 2.0)
            .max_by(f64::total_cmp)
            .unwrap_or(0.0);
        let mut tops = Vec::with_capacity(self.rows.len());
        let mut heights = Vec::with_capacity(self.rows.len());
        let mut y = 0.0;
        let mut gaps: BTreeMap<usize, f64> = BTreeMap::new();
        for link in &self.links {
            let (from, to) = self.ends_of(link);
            let gap = gaps.entry(self.cells[link.upper].rank).or_insert(BETWEEN_MIN);
            *gap = gap.max(((from - to).abs() * 0.2).min(BETWEEN_MAX));
        }
        for (rank, row) in self.rows.iter().enumerate() {
            let height = row.iter().map(|cell| self.cells[*cell].height).fold(0.0, f64::max);
            tops.push(y);
            heights.push(height);
            y += height;
            if rank + 1 < self.rows.len() {
                y += gaps.get(&rank).copied().unwrap_or(BETWEEN_MIN);
            }
        }
        let boxes = ranked.ranks.iter().enumerate().map(|(at, rank)| {
            let cell = &self.cells[at];
            let slack = heights[*rank] - cell.height;
            (cell.x - cell.width / 2.0 - left, tops[*rank] + slack / 2.0)
        });
        let boxes: Vec<(f64, f64)> = boxes.collect();
        let lines = self.lines.iter().enumerate().map(|(line, links)| {
            let mut points = Vec::with_capacity(links.len() * 4);
            for link in links.iter().map(|link| &self.links[*link]) {
                let (from, to) = self.ends_of(link);
                let (upper, lower) = (self.cells[link.upper].rank, self.cells[link.lower].rank);
                if let Some((_, top)) = boxes.get(link.upper) {
                    points.push((from - left, top + self.cells[link.upper].height));
                }
                points.push((from - left, tops[upper] + heights[upper]));
                points.push((to - left, tops[lower]));
                if let Some((_, top)) = boxes.get(link.lower) {
                    points.push((to - left, *top));
                }
            }
            points.dedup();
            if ranked.upwards[line] {
                points.reverse();
            }
            points
        });
        let lines = lines.collect();
        Placed { width: right - left, height: y, boxes, lines }
    }

    fn ends_of(&self, link: &Link) -> (f64, f64) {
        (self.cells[link.upper].x + link.upper_at, self.cells[link.lower].x + link.lower_at)
    }
}

/// A count as a coordinate; beyond four thousand million it would not matter.
pub(super) fn real(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
