//! "Did you mean": the name that a misspelt one most likely stands for.

/// Longer texts are not compared: nobody misspells a name of that length by a letter or two.
const LENGTH_MAX: usize = 64;

/// The candidate that is nearest to `text`, if one is near enough to be meant; of equally near
/// ones the first.
#[must_use]
pub fn closest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let text: Vec<char> = text.chars().collect();
    let limit = (text.len() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LENGTH_MAX)
        .filter_map(|candidate| {
            let chars: Vec<char> = candidate.chars().collect();
            if chars.len().abs_diff(text.len()) > limit {
                return None;
            }
            let distance = distance(&text, &chars);
            (distance <= limit).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be changed, put in, left out or swapped with their neighbour to make
/// `b` of `a`. Upper and lower case are the same letter.
fn distance(a: &[char], b: &[char]) -> usize {
    let same = |x: &char, y: &char| x.eq_ignore_ascii_case(y);
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = last[j] + usize::from(!same(x, y));
            row[j + 1] = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && same(x, &b[j - 1]) && same(&a[i - 1], y) {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_slip_of_the_keyboard_is_recognised_and_another_word_is_not() {
        let fields = ["target", "guard", "actions", "reenter"];

        assert_eq!(closest("gaurd", fields), Some("guard"));
        assert_eq!(closest("Target", fields), Some("target"));
        assert_eq!(closest("action", fields), Some("actions"));
        assert_eq!(closest("description", fields), None);
        assert_eq!(closest("", fields), None);
    }
}
