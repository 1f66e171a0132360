//! Answers as text, JSON or a table.
// PVE: pve-common src/PVE/CLIFormatter.pm

use serde_json::Value;

use super::scalar;
use crate::Params;
use crate::cli::frame::pretty;

/// How an answer is wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    format: String,
    no_border: bool,
    no_header: bool,
    is_quiet: bool,
}

impl Wanted {
    /// Takes the options of formatting out of a command's parameters.
    pub(super) fn take(params: &mut Params, applies: bool) -> Self {
        if !applies {
            return Self::default();
        }
        let mut flag = |name: &str| params.remove(name).is_some_and(|value| scalar(&value) == "1");
        let (no_border, no_header, is_quiet) = (flag("noborder"), flag("noheader"), flag("quiet"));
        flag("human-readable");
        let format =
            params.remove("output-format").map(|value| scalar(&value)).unwrap_or_else(|| "text".into());
        Self { format, no_border, no_header, is_quiet }
    }

    /// Shows an answer.
    ///
    /// # Errors
    /// The format is not one that the lab has.
    pub(super) fn show(&self, data: &Value) -> Result<String, String> {
        if self.is_quiet {
            return Ok(String::new());
        }
        match self.format.as_str() {
            "json" => Ok(format!("{data}\n")),
            "json-pretty" => Ok(pretty(data)),
            "text" | "" => Ok(self.text(data)),
            "yaml" => Ok(super::yaml::dump(data)),
            other => Err(format!(
                "400 Parameter verification failed.\noutput-format: value '{other}' does not have a value in the enumeration 'text, json, json-pretty, yaml'"
            )),
        }
    }

    /// Tells whether a table is wanted.
    pub(super) fn is_text(&self) -> bool {
        !self.is_quiet && matches!(self.format.as_str(), "text" | "")
    }

    /// Shows rights by path, one to a line.
    // PVE: pve-access-control src/PVE/CLI/pveum.pm print_perm_output
    pub(super) fn permissions(&self, data: &Value) -> String {
        let rights = |held: &Value| {
            let all = held.as_object().into_iter().flatten();
            let lines = all.map(
                |(name, propagates)| {
                    if scalar(propagates) == "1" { format!("{name} (*)") } else { name.clone() }
                },
            );
            lines.collect::<Vec<_>>().join("\n")
        };
        let rows: Vec<Vec<String>> = data
            .as_object()
            .into_iter()
            .flatten()
            .map(|(path, held)| vec![path.clone(), rights(held)])
            .collect();
        let table = if rows.is_empty() {
            String::new()
        } else {
            self.draw(&["ACL path".to_owned(), "Permissions".to_owned()], rows)
        };
        table + "Permissions marked with '(*)' have the 'propagate' flag set.\n"
    }

    fn text(&self, data: &Value) -> String {
        match data {
            Value::Null => String::new(),
            Value::Array(items) if items.iter().all(Value::is_object) => {
                if items.is_empty() {
                    return String::new();
                }
                let mut columns: Vec<String> =
                    items.iter().filter_map(Value::as_object).flat_map(|item| item.keys().cloned()).collect();
                columns.sort();
                columns.dedup();
                let rows = items
                    .iter()
                    .map(|item| columns.iter().map(|column| cell(&item[column])).collect())
                    .collect();
                self.draw(&columns, rows)
            }
            Value::Array(items) => items.iter().map(|item| cell(item) + "\n").collect(),
            Value::Object(entries) => {
                let rows = entries.iter().map(|(key, value)| vec![key.clone(), cell(value)]).collect();
                self.draw(&["key".to_owned(), "value".to_owned()], rows)
            }
            value => format!("{}\n", scalar(value)),
        }
    }

    fn draw(&self, columns: &[String], rows: Vec<Vec<String>>) -> String {
        let widths: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(index, title)| {
                let cells = rows.iter().flat_map(|row| row[index].lines()).map(|line| line.chars().count());
                cells.chain([title.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let rule = |sign: &str| {
            let parts: Vec<String> = widths.iter().map(|width| sign.repeat(width + 2)).collect();
            if self.no_border { String::new() } else { format!("+{}+\n", parts.join("+")) }
        };
        let mut text = rule("-");
        if !self.no_header {
            text.push_str(&self.row(columns, &widths));
            text.push_str(&rule("="));
        }
        let count = rows.len();
        for (index, row) in rows.into_iter().enumerate() {
            text.push_str(&self.row(&row, &widths));
            if index + 1 < count {
                text.push_str(&rule("-"));
            }
        }
        text + &rule("-")
    }

    fn row(&self, cells: &[String], widths: &[usize]) -> String {
        let height = cells.iter().map(|cell| cell.lines().count()).max().unwrap_or(1).max(1);
        let line = |number: usize| {
            let parts: Vec<String> = cells
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{:<width$}", cell.lines().nth(number).unwrap_or_default()))
                .collect();
            if self.no_border {
                parts.join(" ").trim_end().to_owned() + "\n"
            } else {
                format!("| {} |\n", parts.join(" | "))
            }
        };
        (0..height).map(line).collect()
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => value.to_string(),
        value => scalar(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_and_lists_are_drawn_as_tables() {
        let wanted = Wanted { format: "text".into(), ..Wanted::default() };
        let list = json!([{"poolid": "lab", "comment": "x"}, {"poolid": "b"}]);
        let expect = "+---------+--------+\n| comment | poolid |\n+=========+========+\n| x       | lab    |\n+---------+--------+\n|         | b      |\n+---------+--------+\n";
        assert_eq!(wanted.show(&list).unwrap(), expect);
        assert_eq!(wanted.show(&json!("100")).unwrap(), "100\n");
        let json_format = Wanted { format: "json".into(), ..Wanted::default() };
        assert_eq!(json_format.show(&json!({"b": 1, "a": "x"})).unwrap(), "{\"a\":\"x\",\"b\":1}\n");
    }
}
