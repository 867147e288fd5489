//! Maps as columns have them: `map[key]` with any key, and entries whatever their fields are called.
//!
//! The engine compares keys only where both are of one type of text, takes constant keys alone, and knows entries by the
//! names that its own maps give them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::functions_nested::expr_fn::{array_element, map_extract};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, cast, lit};

/// The same call, as the engine takes it. `type_of` gives the type of an expression.
pub(super) fn exact(call: ScalarFunction, type_of: &dyn Fn(&Expr) -> Result<DataType>) -> Result<ScalarFunction> {
    match call.func.name() {
        "get_field" => with_key(call, type_of),
        "map_entries" => Ok(with_names(call, type_of)),
        _ => Ok(call),
    }
}

/// `map[key]`, `struct[name]`, and chains of both.
fn with_key(mut call: ScalarFunction, type_of: &dyn Fn(&Expr) -> Result<DataType>) -> Result<ScalarFunction> {
    let mut base = call.args.first().and_then(|base| type_of(base).ok());
    for index in 1..call.args.len() {
        let is_last = index + 1 == call.args.len();
        base = match (base, &mut call.args[index]) {
            (Some(DataType::Map(entries, _)), Expr::Literal(key, _)) => {
                let Some([key_field, value_field]) = pair(&entries) else { break };
                if let Ok(same) = key.cast_to(key_field.data_type()) {
                    *key = same;
                }
                Some(value_field.data_type().clone())
            }
            // The first value of a list of one or none.
            (Some(DataType::Map(entries, _)), key) if is_last => {
                let Some([key_field, _]) = pair(&entries) else { break };
                let key = cast(std::mem::take(key), key_field.data_type().clone());
                call.args.truncate(index);
                let map = if index == 1 { call.args.remove(0) } else { Expr::ScalarFunction(call) };
                let Expr::ScalarFunction(found) = array_element(guarded(map_extract(map, key)), lit(1_i64)) else {
                    return plan_err!("map[key] is not supported here: write map_extract(map, key)[1]");
                };
                return Ok(found);
            }
            (Some(DataType::Struct(fields)), Expr::Literal(name, _)) => {
                let name = name.try_as_str().flatten();
                let field = fields.iter().find(|field| Some(field.name().as_str()) == name);
                field.map(|field| field.data_type().clone())
            }
            (Some(DataType::Struct(_)), _) => {
                return plan_err!("the field of a struct is chosen by a constant name: write column['name']");
            }
            _ => break,
        };
    }
    Ok(call)
}

fn guarded(expr: Expr) -> Expr {
    match expr {
        Expr::ScalarFunction(call) => Expr::ScalarFunction(super::functions::guarded(call)),
        other => other,
    }
}

/// Entries of a map are found by the names `key` and `value`.
fn with_names(mut call: ScalarFunction, type_of: &dyn Fn(&Expr) -> Result<DataType>) -> ScalarFunction {
    let Some(map) = call.args.first_mut() else { return call };
    let Ok(DataType::Map(entries, sorted)) = type_of(map) else { return call };
    let Some([key, value]) = pair(&entries) else { return call };
    if key.name() == "key" && value.name() == "value" {
        return call;
    }
    let key = Field::new("key", key.data_type().clone(), false);
    let value = Field::new("value", value.data_type().clone(), true);
    let entries = Arc::new(Field::new_struct("entries", vec![key, value], false));
    *map = cast(std::mem::take(map), DataType::Map(entries, sorted));
    call
}

fn pair(entries: &FieldRef) -> Option<[FieldRef; 2]> {
    let DataType::Struct(fields) = entries.data_type() else { return None };
    fields.iter().cloned().collect::<Vec<_>>().try_into().ok()
}
