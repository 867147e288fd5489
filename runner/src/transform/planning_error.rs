//! DataFusion's planning errors in the words of this crate, with their place in the text and a cure.

use data_platform_crds::problem::did_you_mean;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;

use super::error::{Position, QueryError};
use super::inputs::QueryInputs;
use super::session::Session;
use super::suggest;
use super::syntax::Places;
use super::window::Edge;

/// What a translation needs to know of the query.
pub(super) struct Translation<'a> {
    places: &'a Places,
    /// Names that it may call.
    functions: Vec<&'a str>,
    /// What a stream reads; `None` for a query over tables.
    inputs: Option<&'a QueryInputs>,
}

impl<'a> Translation<'a> {
    /// Of a query over a stream.
    pub(super) fn of_stream(places: &'a Places, session: &'a Session, inputs: &'a QueryInputs) -> Self {
        Self { places, functions: session.function_names(), inputs: Some(inputs) }
    }

    pub(super) fn of(&self, error: &DataFusionError) -> QueryError {
        if let DataFusionError::SchemaError(schema, _) = error.find_root() {
            match schema.as_ref() {
                SchemaError::FieldNotFound { field, valid_fields } => {
                    let mut names: Vec<&str> = Vec::new();
                    for field in valid_fields {
                        if !names.contains(&field.name.as_str()) {
                            names.push(&field.name);
                        }
                    }
                    if self.edge(&field.name).is_some() && field.relation.is_some() {
                        return QueryError::new(format!("the window's {} belongs to no table", field.name))
                            .at(self.places.column(&field.name))
                            .cure(format!("write {} alone", field.name));
                    }
                    return self.unknown_column(&field.name, &names);
                }
                SchemaError::AmbiguousReference { field } => {
                    return QueryError::new(format!("two columns are called {}", field.name))
                        .at(self.places.column(&field.name))
                        .cure("write its table before it, or give one of them another name: … AS name");
                }
                _ => {}
            }
        }
        let found = QueryError::from_datafusion(error);
        let message = found.message.as_str();
        if let Some(name) = after(message, "invalid function '", '\'') {
            return self.unknown_function(name);
        }
        if message.starts_with("unnest stands") {
            return found.at(self.places.function("unnest"));
        }
        if message.contains("must appear in the GROUP BY")
            && let Some(column) = after(message, "column \"", '"').map(last_part)
        {
            return QueryError::new(format!("the column {column} is neither in GROUP BY nor inside an aggregate"))
                .at(self.places.column(column))
                .cure(format!("add it to GROUP BY, or use max({column}) or collect_set({column})"));
        }
        if message.starts_with("projections require unique expression names")
            && let Some(name) = after(message, "expression \"", '"').map(last_part)
        {
            return QueryError::new(format!("the output has two columns {name}"))
                .at(self.places.column(name))
                .cure("give one of them another name: … AS name");
        }
        if let Some(name) =
            after(message, "function '", '\'').filter(|_| message.contains("failed to match any signature"))
        {
            return self.wrong_types(name, message);
        }
        let position = self.quoted_place(message);
        found.at(position)
    }

    fn unknown_column(&self, name: &str, columns: &[&str]) -> QueryError {
        let error = QueryError::new(format!("there is no column {name}")).at(self.places.column(name));
        if self.edge(name).is_none() {
            let declared = self.inputs.into_iter().flat_map(QueryInputs::schemas).flat_map(|schema| schema.fields());
            let declared: Vec<&str> = declared.map(|field| field.name().as_str()).collect();
            let columns = if columns.is_empty() { declared } else { columns.to_vec() };
            return if columns.is_empty() {
                error
            } else {
                error.cure(suggest::hint(name, &columns, "the columns are"))
            };
        }
        error.cure(if self.places.window.is_some() {
            format!(
                "{name} is known where the window is grouped: in the SELECT list, HAVING and ORDER BY of the SELECT \
                 that has the window; select it there to use it further up"
            )
        } else {
            format!("{name} comes with a window: GROUP BY tumble(<event time>, INTERVAL '1 minute'), …")
        })
    }

    /// The edge of a window that a name is, in a query that may have one.
    fn edge(&self, name: &str) -> Option<Edge> {
        self.inputs.and_then(|_| Edge::from_name(name))
    }

    fn unknown_function(&self, name: &str) -> QueryError {
        let error = QueryError::new(format!("there is no function {name}")).at(self.places.function(name));
        error.cure(instead_of(name, self.functions.iter().copied()))
    }

    /// "requires Int64, but received String" for each form of the function, in one line.
    fn wrong_types(&self, name: &str, message: &str) -> QueryError {
        let pairs: Vec<(&str, &str)> = message
            .split(" requires ")
            .skip(1)
            .filter_map(|rest| {
                let (wanted, rest) = rest.split_once(", but received ")?;
                let received = rest.split([' ', '.', ',']).next()?;
                Some((wanted, if received == "String" { "VARCHAR" } else { received }))
            })
            .collect();
        let received = pairs.first().map_or("these types", |(_, received)| received);
        let mut wanted: Vec<&str> = pairs.iter().map(|(wanted, _)| *wanted).collect();
        wanted.dedup();
        let error = QueryError::new(format!("{name} does not take {received}")).at(self.places.function(name));
        if wanted.is_empty() { error } else { error.cure(format!("it takes {}: CAST the value", wanted.join(", "))) }
    }

    /// The place of the first function or column that a message quotes.
    fn quoted_place(&self, message: &str) -> Option<Position> {
        let quoted = message.split(['\'', '"', '`']).skip(1).step_by(2);
        quoted.map(last_part).find_map(|name| self.places.function(name).or(self.places.column(name)))
    }
}

/// What went wrong when a query over tables was planned.
pub(super) fn of_tables(error: &DataFusionError, state: &SessionState) -> QueryError {
    let message = QueryError::from_datafusion(error).message;
    if let Some(table) = after(&message, "table '", '\'').filter(|_| message.ends_with("not found")) {
        return QueryError::new(format!("there is no table {}", last_part(table)));
    }
    let names = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
    let names = names.chain(state.window_functions().keys()).map(String::as_str);
    let names = names.filter(|name| !name.contains(' '));
    Translation { places: &Places::default(), functions: names.collect(), inputs: None }.of(error)
}

/// What to write instead of a function that is not there.
pub(super) fn instead_of<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match name {
        "unix_timestamp" => "use to_unixtime(t)".to_owned(),
        "date_add" | "dateadd" | "date_sub" | "datesub" | "timestampadd" | "add_months" | "adddate" => {
            "add an interval: t + INTERVAL '1 day', t - INTERVAL '3 months'".to_owned()
        }
        "datediff" | "date_diff" | "timestampdiff" => {
            "subtract seconds: (to_unixtime(b) - to_unixtime(a)) / 86400 are days".to_owned()
        }
        "last_day" => "write date_trunc('month', t) + INTERVAL '1 month' - INTERVAL '1 day'".to_owned(),
        "explode" | "flatten_array" => "use unnest(list)".to_owned(),
        "listagg" | "group_concat" => "use string_agg(x, ',' ORDER BY y)".to_owned(),
        "if" | "iff" => "use CASE WHEN … THEN … ELSE … END".to_owned(),
        "date_format" => "use to_char(t, '%Y-%m-%d')".to_owned(),
        "size" => "use cardinality(list)".to_owned(),
        "get_json_object" | "from_json" | "json_tuple" => {
            "use json_get_str(x, 'key') and its siblings, or declare the field as a column with its path".to_owned()
        }
        _ => {
            let mut known: Vec<&str> = known.into_iter().collect();
            known.sort_unstable();
            match did_you_mean(name, known) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => "docs/sql.md lists all functions".to_owned(),
            }
        }
    }
}

fn after<'a>(message: &'a str, before: &str, end: char) -> Option<&'a str> {
    let (_, rest) = message.split_once(before)?;
    rest.split_once(end).map(|(name, _)| name)
}

/// A column's name without its table.
fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
