//! Distributions in a terminal: one over the other on one logarithmic axis, in blocks, readable without colour.

use hdrhistogram::Histogram;

use super::report::time;

/// Rows of each distribution, and the eighths that a block has.
const ROWS: usize = 4;
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// What stands before each row.
const MARGIN: usize = 4;
/// What lies outside of these quantiles is drawn at the edge: one request in a thousand must not squeeze all others.
const EDGES: (f64, f64) = (0.0005, 0.999);
/// The axis spans at least this ratio, or noise would look like structure.
const SPAN_MIN: f64 = 2.0;

/// The axis: times at the middle of the first and the last column.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    columns: usize,
}

impl Axis {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds, to a column")]
    fn over(series: &[(String, &Histogram<u64>)], columns: usize) -> Option<Self> {
        let filled = || series.iter().map(|(_, histogram)| histogram).filter(|histogram| !histogram.is_empty());
        let low = filled().map(|histogram| histogram.value_at_quantile(EDGES.0)).min()? as f64;
        let high = filled().map(|histogram| histogram.value_at_quantile(EDGES.1)).max()? as f64;
        let stretch = (SPAN_MIN / (high / low)).max(1.0).sqrt();
        Some(Self { low: low / stretch, high: high * stretch, columns })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a column of the terminal"
    )]
    fn column(self, ns: f64) -> usize {
        let last = self.columns - 1;
        let place = (ns / self.low).ln() / (self.high / self.low).ln() * last as f64;
        (place.round().max(0.0) as usize).min(last)
    }

    /// Round times on the axis: 1, 2 and 5 of each power of ten.
    fn ticks(self) -> Vec<f64> {
        let powers = (0..12).map(|power| 10_f64.powi(power));
        let steps = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * power));
        steps.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// The lines of the plot, each of at most `width` columns; none if there is nothing to draw.
pub fn lines(series: &[(String, &Histogram<u64>)], width: usize) -> Vec<String> {
    let columns = width.saturating_sub(MARGIN).max(20);
    let Some(axis) = Axis::over(series, columns) else { return Vec::new() };
    let shares: Vec<Vec<f64>> = series.iter().map(|(_, histogram)| shares(histogram, axis)).collect();
    let highest = shares.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut lines = Vec::new();
    for ((label, histogram), shares) in series.iter().zip(&shares) {
        lines.extend(bars(label, shares, highest));
        lines.push(marks(histogram, axis));
    }
    lines.extend(scale(axis));
    lines
}

/// Which part of the requests falls into each column.
#[expect(clippy::cast_precision_loss, reason = "requests of a benchmark")]
fn shares(histogram: &Histogram<u64>, axis: Axis) -> Vec<f64> {
    let mut shares = vec![0.0; axis.columns];
    let all = (histogram.len() as f64).max(1.0);
    for step in histogram.iter_recorded() {
        shares[axis.column(step.value_iterated_to() as f64)] += step.count_at_value() as f64 / all;
    }
    shares
}

/// The rows of one distribution, the highest first.
fn bars(label: &str, shares: &[f64], highest: f64) -> Vec<String> {
    let levels = ROWS * (BLOCKS.len() - 1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "eighths of a few rows"
    )]
    let level = |share: f64| match share {
        // The root, so that the few slow ones are seen beside the many.
        share if share > 0.0 => (((share / highest).sqrt() * levels as f64).round() as usize).clamp(1, levels),
        _ => 0,
    };
    let row = |row: usize| {
        let below = (ROWS - 1 - row) * (BLOCKS.len() - 1);
        let cells = shares.iter().map(|share| BLOCKS[level(*share).saturating_sub(below).min(BLOCKS.len() - 1)]);
        let label = if row == ROWS - 1 { label } else { "" };
        let line: String = cells.collect();
        format!("{label:>2} {}", format!("│{line}").trim_end())
    };
    (0..ROWS).map(row).collect()
}

/// Where the median and the slowest hundredth are.
fn marks(histogram: &Histogram<u64>, axis: Axis) -> String {
    let mut line = Line::new(axis.columns);
    for (quantile, mark) in [(0.5, "╵p50"), (0.99, "╵p99"), (0.999, "╵p99.9")] {
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds, to a column")]
        let column = axis.column(histogram.value_at_quantile(quantile) as f64);
        if !histogram.is_empty() {
            line.put(column, mark);
        }
    }
    line.framed(" ")
}

fn scale(axis: Axis) -> [String; 2] {
    let (mut rule, mut labels) = (vec!['─'; axis.columns], Line::new(axis.columns));
    for tick in axis.ticks() {
        let column = axis.column(tick);
        rule[column] = '┬';
        labels.put(column, &time(tick));
    }
    let rule: String = rule.into_iter().collect();
    [format!("   └{rule}"), labels.framed(" ")]
}

/// A line that words are put into where there is room.
struct Line(Vec<char>);

impl Line {
    fn new(columns: usize) -> Self {
        Self(vec![' '; columns])
    }

    /// Puts `text` at `column`, or so that it ends at the edge; not over another, and with a gap.
    fn put(&mut self, column: usize, text: &str) {
        let length = text.chars().count();
        let start = column.min(self.0.len().saturating_sub(length));
        let gap = start.saturating_sub(1)..(start + length + 1).min(self.0.len());
        if self.0[gap].iter().all(|cell| *cell == ' ') {
            self.0[start..start + length].iter_mut().zip(text.chars()).for_each(|(cell, letter)| *cell = letter);
        }
    }

    fn framed(self, frame: &str) -> String {
        let text: String = self.0.into_iter().collect();
        format!("   {frame}{text}").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 300_000_000_000, 3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn two_distributions_stand_on_one_axis() {
        let fast = histogram((0..1_000).map(|n| 80_000 + n * 40));
        let slow = histogram((0..1_000).map(|n| 160_000 + n * 400));
        let lines = lines(&[("A".to_owned(), &fast), ("B".to_owned(), &slow)], 60);
        insta::assert_snapshot!(lines.join("\n"), @"
           │ ▃▄▄▅▅▆▆▇▇██
           │▃███████████
           │████████████
         A │████████████
                  ╵p50 ╵p99
           │
           │                                      ▁▁▁▁▂▂▃▃▃▃▄▄▄▅▅▆▆
           │                    ▄▄▅▅▅▅▆▆▆▆▇▇▇▇▇█████████████████████
         B │                    ████████████████████████████████████
                                                      ╵p50      ╵p99
           └──────┬───────────────────┬─────────────────────────┬───
                  100 µs              200 µs                  500 µs
        ");
        assert!(lines.iter().all(|line| line.chars().count() <= 60), "{lines:#?}");
    }

    #[test]
    fn nothing_and_one_value_are_drawn_too() {
        assert!(lines(&[("A".to_owned(), &histogram([]))], 80).is_empty());
        let one = lines(&[("A".to_owned(), &histogram([5_000])), ("B".to_owned(), &histogram([]))], 80);
        let blocks = one.iter().flat_map(|line| line.chars()).filter(|letter| *letter == '█').count();
        assert_eq!(blocks, ROWS, "{one:#?}");
    }

    #[test]
    fn a_wild_value_stays_at_the_edge() {
        let mut wild = histogram((0..10_000).map(|n| 100_000 + n));
        wild.record(60_000_000_000).unwrap();
        let axis = Axis::over(&[("A".to_owned(), &wild)], 70).unwrap();
        assert!(axis.high < 300_000.0, "{axis:?}");
        assert_eq!(axis.column(6e10), 69);
    }
}
