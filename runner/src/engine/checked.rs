//! Arithmetic on whole numbers and decimals that fails where the result does not fit, instead of wrapping around.

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::kernels::numeric::{add, div, mul, neg, sub};
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Plus,
    Minus,
    Times,
    Divide,
    Negate,
}

impl Operation {
    fn sign(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus | Self::Negate => "-",
            Self::Times => "*",
            Self::Divide => "/",
        }
    }
}

/// Whether the operator wraps around on values of these types, or makes decimals of too many digits.
pub(super) fn wraps(operator: Operator, left: &DataType, right: &DataType) -> bool {
    let exact = |data_type: &DataType| data_type.is_integer() || is_decimal(data_type);
    match operator {
        Operator::Plus | Operator::Minus | Operator::Multiply => exact(left) && exact(right),
        Operator::Divide => is_decimal(left) && is_decimal(right),
        _ => false,
    }
}

/// Whether a minus before a value of this type wraps around.
pub(super) fn negation_wraps(data_type: &DataType) -> bool {
    data_type.is_signed_integer() || is_decimal(data_type)
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}

/// `left operator right` for which [`wraps`] holds. A chain `a + b - c` becomes one function of all its values: a long
/// one would otherwise nest as deep.
pub(super) fn binary(operator: Operator, left: Expr, right: Expr, data_type: DataType) -> Expr {
    let operation = match operator {
        Operator::Plus => Operation::Plus,
        Operator::Minus => Operation::Minus,
        Operator::Multiply => Operation::Times,
        _ => Operation::Divide,
    };
    let (mut steps, mut args) = match left {
        Expr::ScalarFunction(call) if chain(&call.func).is_some_and(|chain| chain.steps[0].0 != Operation::Negate) => {
            (chain(&call.func).map(|chain| chain.steps.clone()).unwrap_or_default(), call.args)
        }
        left => (vec![], vec![left]),
    };
    steps.push((operation, data_type));
    args.push(right);
    Checked::function(steps, args.len()).call(args)
}

/// `- value` for which [`negation_wraps`] holds.
pub(super) fn negated(value: Expr, data_type: DataType) -> Expr {
    Checked::function(vec![(Operation::Negate, data_type)], 1).call(vec![value])
}

/// The type of an expression of ours, without asking for the types of its parts.
pub(super) fn known_type(expr: &Expr) -> Option<DataType> {
    let Expr::ScalarFunction(call) = expr else { return None };
    chain(&call.func).map(|chain| chain.data_type().clone())
}

fn chain(function: &ScalarUDF) -> Option<&Checked> {
    function.inner().downcast_ref::<Checked>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    /// The signs, for people.
    name: String,
    /// What is computed of the value so far and the next argument, and the type of that. Never empty.
    steps: Vec<(Operation, DataType)>,
    signature: Signature,
}

impl Checked {
    fn function(steps: Vec<(Operation, DataType)>, arguments: usize) -> ScalarUDF {
        let name = steps.iter().map(|(operation, _)| operation.sign()).collect::<Vec<_>>().join(" ");
        ScalarUDF::new_from_impl(Self { name, steps, signature: Signature::any(arguments, Volatility::Immutable) })
    }

    fn data_type(&self) -> &DataType {
        self.steps.last().map_or(&DataType::Null, |(_, data_type)| data_type)
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        &self.name
    }

    /// As the operators themselves are called.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let mut name = args.first().map(|first| first.schema_name().to_string()).unwrap_or_default();
        if self.steps[0].0 == Operation::Negate {
            return Ok(format!("(- {name})"));
        }
        for ((operation, _), arg) in self.steps.iter().zip(&args[1..]) {
            name += &format!(" {} {}", operation.sign(), arg.schema_name());
        }
        Ok(name)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type().clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut args = args.args.into_iter();
        let Some(mut value) = args.next() else { return exec_err!("{} takes values", self.name) };
        for (operation, data_type) in &self.steps {
            let computed = match operation {
                Operation::Negate => apply(&value, &value, |value, _| neg(value.get().0)),
                binary => {
                    let Some(right) = args.next() else { return exec_err!("{} takes values", self.name) };
                    match binary {
                        Operation::Plus => apply(&value, &right, add),
                        Operation::Minus | Operation::Negate => apply(&value, &right, sub),
                        Operation::Times => apply(&value, &right, mul),
                        Operation::Divide => apply(&value, &right, div),
                    }
                }
            };
            value = computed.map_err(|error| without_values(error, *operation, data_type))?;
            fits(&value, *operation, data_type)?;
        }
        Ok(value)
    }
}

/// Arrow's message has the values in it.
fn without_values(error: DataFusionError, operation: Operation, data_type: &DataType) -> DataFusionError {
    match &error {
        DataFusionError::ArrowError(arrow, _) if matches!(**arrow, ArrowError::ArithmeticOverflow(_)) => {
            overflow(operation, data_type)
        }
        _ => error,
    }
}

fn overflow(operation: Operation, data_type: &DataType) -> DataFusionError {
    DataFusionError::Execution(format!("the result of {} does not fit {}", operation.sign(), sql_type(data_type)))
}

/// A decimal of most digits may have more than its type, and still fit its bytes.
fn fits(result: &ColumnarValue, operation: Operation, data_type: &DataType) -> Result<()> {
    if !matches!(data_type, DataType::Decimal128(DECIMAL128_MAX_PRECISION, _)) {
        return Ok(());
    }
    let valid = |array: &ArrayRef| match array.as_primitive_opt::<Decimal128Type>() {
        Some(values) => values.validate_decimal_precision(DECIMAL128_MAX_PRECISION).is_ok(),
        None => true,
    };
    let fits = match result {
        ColumnarValue::Array(array) => valid(array),
        ColumnarValue::Scalar(scalar) => valid(&scalar.to_array()?),
    };
    if fits { Ok(()) } else { Err(overflow(operation, data_type)) }
}

/// A type as SQL calls it.
pub(super) fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "TINYINT UNSIGNED".into(),
        DataType::UInt16 => "SMALLINT UNSIGNED".into(),
        DataType::UInt32 => "INT UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float16 | DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BINARY".into()
        }
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(..) => "TIMESTAMP".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("{}[]", sql_type(item.data_type()))
        }
        DataType::Struct(_) => "STRUCT".into(),
        DataType::Map(..) => "MAP".into(),
        DataType::Union(..) => "JSON".into(),
        DataType::Null => "NULL".into(),
        other => other.to_string(),
    }
}
