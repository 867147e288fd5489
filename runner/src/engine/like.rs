//! `LIKE … ESCAPE`: the engine knows the backslash alone; here a pattern of any other character becomes one of the backslash.

use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err, plan_datafusion_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Like;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The engine's own escape.
const BACKSLASH: char = '\\';

/// The same condition, in the engine's own form.
pub(super) fn exact(mut like: Like) -> Result<Expr> {
    if let Some(escape) = like.escape_char.take().filter(|escape| *escape != BACKSLASH) {
        like.pattern = Box::new(match *like.pattern {
            Expr::Literal(pattern, metadata) => Expr::Literal(constant(&pattern, escape)?, metadata),
            Expr::Cast(mut cast) if matches!(*cast.expr, Expr::Literal(..)) => {
                if let Expr::Literal(pattern, _) = cast.expr.as_mut() {
                    *pattern = constant(pattern, escape)?;
                }
                Expr::Cast(cast)
            }
            pattern => ScalarUDF::new_from_impl(Pattern::new(escape)).call(vec![pattern]),
        });
    }
    Ok(Expr::Like(like))
}

/// A pattern that is known now: a wrong one is a fault of the query, not of a value.
fn constant(pattern: &ScalarValue, escape: char) -> Result<ScalarValue> {
    in_scalar(pattern, escape).map_err(|error| {
        let text = error.strip_backtrace();
        plan_datafusion_err!("{}", text.strip_prefix("Execution error: ").unwrap_or(&text))
    })
}

fn with_backslash(pattern: &str, escape: char) -> Result<String> {
    let mut made = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        // What is escaped stands for itself; so does the engine's own escape, which is none here.
        let (letter, is_itself) = match letter {
            _ if letter == escape => match letters.next() {
                Some(escaped) => (escaped, true),
                None => {
                    return exec_err!("the pattern of LIKE ends with its escape character {escape}: write it twice");
                }
            },
            letter => (letter, letter == BACKSLASH),
        };
        if is_itself && matches!(letter, '%' | '_' | BACKSLASH) {
            made.push(BACKSLASH);
        }
        made.push(letter);
    }
    Ok(made)
}

fn in_scalar(pattern: &ScalarValue, escape: char) -> Result<ScalarValue> {
    let Some(Some(text)) = pattern.try_as_str() else { return Ok(pattern.clone()) };
    ScalarValue::from(with_backslash(text, escape)?).cast_to(&pattern.data_type())
}

/// A pattern that is no constant, as the engine reads patterns.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Pattern {
    escape: char,
    signature: Signature,
}

impl Pattern {
    fn new(escape: char) -> Self {
        Self { escape, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn of_array(&self, patterns: &ArrayRef) -> Result<ArrayRef> {
        let texts = cast(patterns, &DataType::Utf8)?;
        let made =
            texts.as_string::<i32>().iter().map(|text| text.map(|text| with_backslash(text, self.escape)).transpose());
        let made: StringArray = made.collect::<Result<_>>()?;
        Ok(cast(&made, patterns.data_type())?)
    }
}

impl ScalarUDFImpl for Pattern {
    fn name(&self) -> &str {
        "like pattern"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.first() {
            Some(ColumnarValue::Scalar(pattern)) => in_scalar(pattern, self.escape).map(ColumnarValue::Scalar),
            Some(ColumnarValue::Array(patterns)) => self.of_array(patterns).map(ColumnarValue::Array),
            None => exec_err!("LIKE takes a pattern"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_stands_for_itself_whatever_the_character_is() {
        for (pattern, escape, expected) in [
            ("ab!%c%", '!', r"ab\%c%"),
            ("a!_b_", '!', r"a\_b_"),
            ("a!!b", '!', "a!b"),
            ("a!!%", '!', "a!%"),
            ("a!b", '!', "ab"),
            (r"a\b", '!', r"a\\b"),
            (r"a!\b", '!', r"a\\b"),
            ("é€%€€", '€', r"é\%€"),
            ("", '!', ""),
        ] {
            assert_eq!(with_backslash(pattern, escape).unwrap(), expected, "{pattern}");
        }
        // A wildcard as escape is none any more.
        assert_eq!(with_backslash("%%a", '%').unwrap(), r"\%a");
        assert_eq!(with_backslash("a__", '_').unwrap(), r"a\_");
        assert!(with_backslash("ab!", '!').is_err());
    }
}
