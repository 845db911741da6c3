//! Figures: one run's numbers, their median over rounds, and how they are shown.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// The numbers of one run, or the medians of several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) updates_per_s: f64,
    pub(super) mb_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) cpu_us_per_update: f64,
    pub(super) syscalls_per_update: f64,
    pub(super) allocs_per_update: f64,
    pub(super) lost: f64,
    pub(super) errors: f64,
    pub(super) updates: f64,
    pub(super) seconds: f64,
}

/// Key, heading, how rounds are summed up.
const COLUMNS: [(&str, &str, Summary); 13] = [
    ("updates_per_s", "updates/s", Summary::Median),
    ("mb_per_s", "MB/s", Summary::Median),
    ("p50_us", "p50 µs", Summary::Median),
    ("p99_us", "p99 µs", Summary::Median),
    ("p999_us", "p99.9 µs", Summary::Median),
    ("max_us", "max µs", Summary::Max),
    ("cpu_us_per_update", "CPU µs", Summary::Median),
    ("syscalls_per_update", "calls", Summary::Median),
    ("allocs_per_update", "allocs", Summary::Median),
    ("lost", "lost", Summary::Sum),
    ("errors", "errors", Summary::Sum),
    ("updates", "updates", Summary::Sum),
    ("seconds", "seconds", Summary::Sum),
];

/// How one number stands for all rounds.
#[derive(Clone, Copy)]
enum Summary {
    Median,
    Max,
    Sum,
}

impl Figures {
    fn cells(&self) -> [f64; COLUMNS.len()] {
        [
            self.updates_per_s,
            self.mb_per_s,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.max_us,
            self.cpu_us_per_update,
            self.syscalls_per_update,
            self.allocs_per_update,
            self.lost,
            self.errors,
            self.updates,
            self.seconds,
        ]
    }

    fn from_cells(cells: [f64; COLUMNS.len()]) -> Self {
        let [
            updates_per_s,
            mb_per_s,
            p50_us,
            p99_us,
            p999_us,
            max_us,
            cpu,
            syscalls,
            allocs,
            lost,
            errors,
            updates,
            seconds,
        ] = cells;
        Self {
            updates_per_s,
            mb_per_s,
            p50_us,
            p99_us,
            p999_us,
            max_us,
            cpu_us_per_update: cpu,
            syscalls_per_update: syscalls,
            allocs_per_update: allocs,
            lost,
            errors,
            updates,
            seconds,
        }
    }

    /// The figures as an object of numbers.
    pub(super) fn to_json(self) -> Map<String, Value> {
        COLUMNS.iter().zip(self.cells()).map(|((key, ..), cell)| ((*key).to_string(), json!(rounded(cell)))).collect()
    }

    /// The figures that a sender process printed.
    pub(super) fn from_json(text: &str) -> Option<Self> {
        let object: Map<String, Value> = serde_json::from_str(text).ok()?;
        let mut cells = [0.0; COLUMNS.len()];
        for (cell, (key, ..)) in cells.iter_mut().zip(COLUMNS) {
            *cell = object.get(key)?.as_f64()?;
        }
        Some(Self::from_cells(cells))
    }
}

/// All rounds of one row of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds(pub(super) Vec<Figures>);

impl Rounds {
    /// One set of figures for all rounds: medians, the worst `max`, sums of what was lost and counted.
    pub(super) fn summary(&self) -> Figures {
        let mut cells = [0.0; COLUMNS.len()];
        for (i, (cell, (.., summary))) in cells.iter_mut().zip(COLUMNS).enumerate() {
            let column = self.0.iter().map(|figures| figures.cells()[i]);
            *cell = match summary {
                Summary::Median => median(column.collect()),
                Summary::Max => column.fold(0.0, f64::max),
                Summary::Sum => column.sum(),
            };
        }
        Figures::from_cells(cells)
    }

    /// The range of the rates over their median: how far rounds lie apart.
    pub(super) fn spread(&self) -> f64 {
        let rates = self.0.iter().map(|figures| figures.updates_per_s);
        let (low, high) = rates.clone().fold((f64::MAX, 0.0), |(low, high), x| (x.min(low), x.max(high)));
        ratio(high - low, median(rates.collect()))
    }

    /// Summary, spread and every round.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let mut object = self.summary().to_json();
        object.insert(String::from("spread"), json!(rounded(self.spread())));
        let rounds: Vec<_> = self.0.iter().map(|round| round.to_json()).collect();
        object.insert(String::from("rounds"), json!(rounds));
        object
    }

    /// Median over rounds of this row's `figure` over that of `other` in the same round.
    pub(super) fn ratio(&self, other: &Self, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.0.iter().zip(&other.0).map(|(a, b)| ratio(figure(a), figure(b))).collect())
    }
}

/// Rows of one placement, the measured one first, then its limits.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) placement: &'static str,
    pub(super) rows: Vec<(&'static str, &'static str, Rounds)>,
}

impl Table {
    /// The first row's keys at the top, each other row under its own, ratios to the first limit.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::from_iter([(String::from("placement"), json!(self.placement))]);
        let Some(((.., measured), limits)) = self.rows.split_first() else { return object };
        object.extend(measured.to_json());
        for (key, _, limit) in limits {
            let suffix = key.strip_prefix("limit").unwrap_or_default();
            object.insert((*key).to_string(), Value::Object(limit.to_json()));
            for (name, ratio) in ratios(measured, limit) {
                object.insert(format!("ratio_{name}{suffix}"), json!(rounded(ratio)));
            }
        }
        object
    }

    /// Rows for a person.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let shown = &COLUMNS[..COLUMNS.len() - 2];
        let _ = write!(text, "{:<34}", self.placement);
        for (_, heading, _) in shown {
            let _ = write!(text, "{heading:>12}");
        }
        let _ = writeln!(text, "{:>9}", "spread");
        for (_, name, rounds) in &self.rows {
            let _ = write!(text, "{name:<34}");
            for cell in &rounds.summary().cells()[..shown.len()] {
                let _ = write!(text, "{:>12}", number(*cell));
            }
            let _ = writeln!(text, "{:>8.0}%", rounds.spread() * 100.0);
        }
        if let Some(((.., measured), limits)) = self.rows.split_first() {
            for (_, name, limit) in limits {
                let [(_, p50), (_, updates)] = ratios(measured, limit);
                let _ = writeln!(text, "  against {name}: {updates:.2} × its updates/s, {p50:.2} × its p50");
            }
        }
        text
    }

    /// Updates lost and calls failed, over all rows.
    pub(super) fn failures(&self) -> f64 {
        self.rows.iter().map(|(.., rounds)| rounds.summary()).map(|f| f.lost + f.errors).sum()
    }
}

fn ratios(measured: &Rounds, limit: &Rounds) -> [(&'static str, f64); 2] {
    [("p50", measured.ratio(limit, |f| f.p50_us)), ("updates", measured.ratio(limit, |f| f.updates_per_s))]
}

fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

/// Three decimals: below the noise of every figure.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A number in as many digits as it is worth, thousands apart.
fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(rate: f64, p50: f64) -> Figures {
        Figures { updates_per_s: rate, p50_us: p50, max_us: p50 * 10.0, lost: 1.0, ..Figures::default() }
    }

    #[test]
    fn rounds_are_summed_up_by_their_median_and_their_losses_add_up() {
        let rounds = Rounds(vec![round(10.0, 1.0), round(30.0, 3.0), round(20.0, 9.0)]);
        let summary = rounds.summary();
        assert_eq!((summary.updates_per_s, summary.p50_us), (20.0, 3.0));
        assert_eq!((summary.max_us, summary.lost), (90.0, 3.0));
        assert_eq!(rounds.spread(), 1.0);
    }

    #[test]
    fn ratio_compares_rounds_that_ran_side_by_side() {
        let ours = Rounds(vec![round(10.0, 1.0), round(1.0, 1.0), round(30.0, 1.0)]);
        let limit = Rounds(vec![round(20.0, 1.0), round(2.0, 1.0), round(30.0, 1.0)]);
        assert_eq!(ours.ratio(&limit, |f| f.updates_per_s), 0.5);
    }

    #[test]
    fn figures_survive_the_way_through_a_pipe() {
        let figures = round(12_345.678, 0.25);
        let text = serde_json::to_string(&figures.to_json()).unwrap();
        assert_eq!(Figures::from_json(&text), Some(figures));
        assert_eq!(Figures::from_json("{\"updates_per_s\":1}"), None);
    }

    #[test]
    fn limits_stand_under_their_own_keys_with_ratios_beside() {
        let table = Table {
            placement: "across",
            rows: vec![
                ("hotspare", "hotspare", Rounds(vec![round(10.0, 4.0)])),
                ("limit", "one socket per thread", Rounds(vec![round(20.0, 2.0)])),
                ("limit_multiplexed", "one shared socket", Rounds(vec![round(40.0, 1.0)])),
            ],
        };
        let json = table.to_json();
        assert_eq!(json["ratio_updates"], json!(0.5));
        assert_eq!(json["ratio_p50_multiplexed"], json!(4.0));
        assert_eq!(json["limit_multiplexed"]["updates_per_s"], json!(40.0));
        assert!(table.to_text().contains("one shared socket"));
        assert_eq!(table.failures(), 3.0);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(12.345), "12.35");
        assert_eq!(number(0.0), "0");
    }
}
