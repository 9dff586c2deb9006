//! Circles in graphs.

use pled_engine::template::StateIndex;

/// The strongly connected components of more than one node, each ascending, by their first node.
/// `edges[n]` are the nodes that n leads to.
pub(crate) fn cycles(edges: &[Vec<StateIndex>]) -> Vec<Vec<StateIndex>> {
    let mut search = Search {
        edges,
        order: vec![0; edges.len()],
        low: vec![0; edges.len()],
        on_stack: vec![false; edges.len()],
        stack: Vec::new(),
        count: 0,
        found: Vec::new(),
    };
    for node in 0..edges.len() {
        if search.order[node] == 0 {
            search.visit(node);
        }
    }
    let mut found = search.found;
    found.sort();
    found
}

/// Tarjan's algorithm, with a stack of its own, so that deep graphs do not exhaust the thread's.
struct Search<'e> {
    edges: &'e [Vec<StateIndex>],
    order: Vec<usize>,
    low: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    count: usize,
    found: Vec<Vec<StateIndex>>,
}

impl Search<'_> {
    fn visit(&mut self, root: usize) {
        let mut open: Vec<(usize, usize)> = vec![(root, 0)];
        self.begin(root);
        while let Some((node, next)) = open.last_mut() {
            let node = *node;
            if let Some(target) = self.edges[node].get(*next) {
                *next += 1;
                let target = usize::try_from(*target).unwrap_or(usize::MAX);
                if self.order[target] == 0 {
                    self.begin(target);
                    open.push((target, 0));
                } else if self.on_stack[target] {
                    self.low[node] = self.low[node].min(self.order[target]);
                }
                continue;
            }
            open.pop();
            if let Some((parent, _)) = open.last() {
                self.low[*parent] = self.low[*parent].min(self.low[node]);
            }
            if self.low[node] == self.order[node] {
                self.end(node);
            }
        }
    }

    fn begin(&mut self, node: usize) {
        self.count += 1;
        self.order[node] = self.count;
        self.low[node] = self.count;
        self.on_stack[node] = true;
        self.stack.push(node);
    }

    fn end(&mut self, root: usize) {
        let from = self.stack.iter().rposition(|node| *node == root).unwrap_or_default();
        let component = self.stack.split_off(from);
        for node in &component {
            self.on_stack[*node] = false;
        }
        if component.len() > 1 {
            let mut component: Vec<StateIndex> =
                component.iter().filter_map(|node| StateIndex::try_from(*node).ok()).collect();
            component.sort_unstable();
            self.found.push(component);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cycles;

    #[test]
    fn circles_are_found_and_what_leads_to_them_is_not_part_of_them() {
        let edges = [vec![1], vec![2], vec![1, 3], vec![4], vec![], vec![6], vec![5]];

        assert_eq!(cycles(&edges), [vec![1, 2], vec![5, 6]]);
    }
}
