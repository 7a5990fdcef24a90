//! What a measurement brought: the value, its spread, what it is compared with, and how that is shown.

use crate::list::{Figure, Target};
use serde_json::{Map, Value, json};

pub type Error = Box<dyn std::error::Error>;

/// Measured in the same run, beside ours.
pub struct Compared {
    pub with: String,
    pub value: f64,
    /// Ours to it: the median over the pairs of runs, so that a machine that drifts moves both.
    pub ratio: f64,
}

pub struct Measured {
    pub name: &'static str,
    pub value: f64,
    /// How many repetitions the value is of, and their smallest and largest.
    pub runs: usize,
    pub low: f64,
    pub high: f64,
    pub compared: Option<Compared>,
    /// More of the same run, by name.
    pub details: Vec<(&'static str, Value)>,
}

pub enum Answer {
    Measured(Measured),
    /// What it needs is not here; says how to get it.
    Skipped(&'static str, String),
}

impl Measured {
    /// The median of the runs.
    pub fn median(name: &'static str, runs: &[f64]) -> Measured {
        Measured::of(name, median(runs), runs)
    }

    /// Another value over the same runs.
    pub fn of(name: &'static str, value: f64, runs: &[f64]) -> Measured {
        let low = runs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Measured { name, value, runs: runs.len(), low, high, compared: None, details: Vec::new() }
    }

    /// Counted, not timed: there is no spread.
    pub fn exactly(name: &'static str, value: f64, runs: usize) -> Measured {
        Measured { runs, ..Measured::of(name, value, &[value]) }
    }

    /// `ours` and `theirs` are pairs of the same round.
    pub fn beside(mut self, with: impl Into<String>, ours: &[f64], theirs: &[f64]) -> Measured {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        self.compared = Some(Compared { with: with.into(), value: median(theirs), ratio: median(&ratios) });
        self
    }

    pub fn detail(mut self, name: &'static str, value: impl Into<Value>) -> Measured {
        self.details.push((name, value.into()));
        self
    }

    /// `None` where nothing is promised.
    pub fn reached(&self, target: Target) -> Option<bool> {
        let ratio = self.compared.as_ref().map_or(f64::NAN, |c| c.ratio);
        match target {
            Target::None => None,
            Target::AtMost(limit) => Some(self.value <= limit),
            Target::RatioAtLeast(limit) => Some(ratio >= limit),
            Target::RatioAtMost(limit) => Some(ratio <= limit),
        }
    }
}

impl Answer {
    pub fn name(&self) -> &'static str {
        match self {
            Answer::Measured(measured) => measured.name,
            Answer::Skipped(name, _) => name,
        }
    }

    /// A target that was measured and missed; a skipped one is neither.
    pub fn is_missed(&self, figure: &Figure) -> bool {
        matches!(self, Answer::Measured(m) if m.reached(figure.target) == Some(false))
    }

    /// One line of JSON.
    pub fn line(&self, figure: &Figure) -> String {
        let mut line = Map::new();
        line.insert("name".into(), json!(figure.name));
        match self {
            Answer::Skipped(_, why) => {
                line.insert("skipped".into(), json!(why));
            }
            Answer::Measured(m) => {
                let compared = m.compared.as_ref();
                let spread = json!({ "low": rounded(m.low), "high": rounded(m.high) });
                line.extend([
                    ("value".into(), json!(rounded(m.value))),
                    ("unit".into(), json!(figure.unit)),
                    ("compared_with".into(), json!(compared.map(|c| &c.with))),
                    ("compared_value".into(), json!(compared.map(|c| rounded(c.value)))),
                    ("ratio".into(), json!(compared.map(|c| rounded(c.ratio)))),
                    ("repetitions".into(), json!(m.runs)),
                    ("spread".into(), spread),
                    ("target".into(), json!(figure.target.to_string())),
                    ("reached".into(), json!(m.reached(figure.target))),
                ]);
                line.extend(m.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            }
        }
        Value::Object(line).to_string()
    }

    /// One row of the README's table.
    pub fn row(&self, figure: &Figure) -> String {
        let Figure { name, unit, means, target } = figure;
        let (measured, compared) = match self {
            Answer::Skipped(_, why) => (format!("skipped: {why}"), String::new()),
            Answer::Measured(m) => {
                let spread = match m.low < m.high {
                    true => format!(" ({} to {} in {} runs)", shown(m.low), shown(m.high), m.runs),
                    false => String::new(),
                };
                let missed = if m.reached(*target) == Some(false) { ", **missed**" } else { "" };
                let compared = m.compared.as_ref();
                let compared = compared
                    .map_or(String::new(), |c| format!("{}: {}; ratio {}", c.with, shown(c.value), shown(c.ratio)));
                (format!("{} {unit}{spread}{missed}", shown(m.value)), compared)
            }
        };
        format!("| `{name}` | {means} | {measured} | {target} | {compared} |")
    }
}

pub const TABLE_HEAD: &str = "| figure | means | measured | target | compared with |\n| --- | --- | --- | --- | --- |";

pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The smallest value that this part of all values does not exceed.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// To four digits: more would pretend.
pub fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() || value.fract() == 0.0 {
        return value;
    }
    let scale = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    let digits = (value * scale).round() / scale;
    if digits.abs() >= 1000.0 { digits.round() } else { digits }
}

/// `12,345`, `4.321`.
fn shown(value: f64) -> String {
    let text = format!("{}", rounded(value));
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}
