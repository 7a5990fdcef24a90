//! The README says what the program does: its tables are the program's own lists.

#[path = "../src/bench/list.rs"]
#[allow(dead_code)]
mod list;

use list::FIGURES;
use ops_controller::config::VARIABLES;
use ops_controller::plan::condition::{ConditionType, Reason};
use ops_controller::sandbox::faults::Break;

const README: &str = include_str!("../README.md");

/// The lines between `<!-- name -->` and the next blank-line-separated paragraph that is no table.
fn section(name: &str) -> String {
    let start = README.find(&format!("<!-- {name} -->")).unwrap_or_else(|| panic!("no section {name}"));
    let table: Vec<&str> =
        README[start..].lines().skip(1).skip_while(|l| l.is_empty()).take_while(|l| !l.is_empty()).collect();
    table.join("\n")
}

fn variables() -> String {
    let mut lines = vec!["| variable | default | meaning |".to_owned(), "| --- | --- | --- |".to_owned()];
    lines.extend(VARIABLES.iter().map(|v| {
        let secret = if v.secret { " `F`" } else { "" };
        let default = v.default.map_or(String::new(), |d| format!("`{d}`"));
        format!("| `{}`{secret} | {default} | {} |", v.name, v.meaning)
    }));
    lines.join("\n")
}

fn reasons() -> String {
    let mut lines = vec!["| reason | means |".to_owned(), "| --- | --- |".to_owned()];
    lines.extend(Reason::ALL.iter().map(|r| format!("| `{r}` | {} |", r.meaning())));
    lines.join("\n")
}

#[test]
fn the_table_of_variables_is_the_programs_own() {
    assert_eq!(section("variables"), variables(), "paste this into README.md:\n\n{}\n", variables());
}

#[test]
fn the_table_of_reasons_is_the_programs_own() {
    assert_eq!(section("reasons"), reasons(), "paste this into README.md:\n\n{}\n", reasons());
}

#[test]
fn every_condition_and_every_break_is_told() {
    for kind in ConditionType::ALL {
        assert!(README.contains(&format!("| `{kind}` |")), "{kind} is not in the table of conditions");
    }
    for trouble in Break::ALL {
        assert!(README.contains(&format!("`{}`", trouble.name())), "{} is not named", trouble.name());
    }
}

#[test]
fn the_table_of_figures_has_every_figure_with_its_target() {
    let told: Vec<(String, String)> = section("figures")
        .lines()
        .skip(2)
        .map(|row| row.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>())
        .map(|cells| (cells[1].clone(), cells[4].clone()))
        .collect();
    let listed: Vec<_> = FIGURES.iter().map(|f| (format!("`{}`", f.name), f.target.to_string())).collect();
    assert_eq!(told, listed, "paste the rows that `cargo bench -- --table` prints into README.md");
}
