//! Every scalar function of a query, in a coat: a panic inside is an error of the value, and what makes much of little
//! has a limit (`limits`), and what would lose a time is refused (`lost`).

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{ScalarValue, config::ConfigOptions};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, StructFieldMapping, Volatility,
};

use super::durations;
use super::limits::{self, Estimate};
use super::lost::{self, Loses};
use crate::engine::panics::caught;

/// The planner knows these by their type: it reads a field of a struct without making the struct. None can panic.
const KNOWN_BY_TYPE: [&str; 3] = ["get_field", "named_struct", "struct"];

/// The call, guarded if its function is one of the registry: others are signs that somebody looks for.
pub(crate) fn guarded(mut call: ScalarFunction) -> ScalarFunction {
    static NAMES: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let functions = super::registry(&super::BatchClock::default(), false).scalar;
        functions.iter().map(|function| function.name().to_owned()).collect()
    });
    let name = call.func.name();
    if NAMES.contains(name) && !KNOWN_BY_TYPE.contains(&name) && !call.func.inner().is::<Guarded>() {
        call.func = Arc::new(coat(call.func));
    }
    call
}

fn coat(function: Arc<ScalarUDF>) -> ScalarUDF {
    let (estimate, loses) = (limits::estimate_of(function.name()), lost::loses(function.name()));
    ScalarUDF::new_from_impl(Guarded { function, estimate, loses })
}

/// The name of the function if a call always gives the same: such a call can be tried when the query is planned.
pub(crate) fn constant_call(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::ScalarFunction(call)
            if call.func.inner().is::<Guarded>() && call.func.signature().volatility == Volatility::Immutable =>
        {
            call.args.iter().all(is_constant).then(|| call.func.name())
        }
        _ => None,
    }
}

/// Whether an expression is made of constants alone. The edges of a window are functions without arguments, and none.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) => true,
        Expr::Cast(cast) => is_constant(&cast.expr),
        Expr::ScalarFunction(call) => {
            call.func.signature().volatility == Volatility::Immutable
                && !call.args.is_empty()
                && call.args.iter().all(is_constant)
        }
        _ => false,
    }
}

/// Some functions of times forget the zone of what they promised: `to_timestamp` of a column of text. The moment is the same.
fn in_promised_zone(value: ColumnarValue, promised: &DataType) -> Result<ColumnarValue> {
    match (value.data_type(), promised) {
        (DataType::Timestamp(unit, zone), DataType::Timestamp(wanted_unit, wanted))
            if unit == *wanted_unit && zone != *wanted =>
        {
            value.cast_to(promised, None)
        }
        _ => Ok(value),
    }
}

struct Guarded {
    function: Arc<ScalarUDF>,
    estimate: Option<Estimate>,
    loses: Option<Loses>,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("function", &self.function).finish_non_exhaustive()
    }
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

impl ScalarUDFImpl for Guarded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.function.inner().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.inner().return_type(arg_types)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        self.function.inner().with_updated_config(config).map(|function| coat(Arc::new(function)))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        caught(self.name(), || self.function.inner().return_field_from_args(args))
    }

    fn is_strict(&self) -> bool {
        self.function.inner().is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(estimate) = self.estimate {
            limits::check(self.name(), estimate, &args)?;
        }
        let promised = Arc::clone(&args.return_field);
        let given = self.loses.map(|loses| (loses, args.args.clone(), args.number_rows));
        if let Some((loses, args, _)) = &given {
            lost::check_given(self.name(), *loses, args)?;
            if *loses == Loses::Part
                && let Some(counted) = durations::part(self.name(), args)?
            {
                return Ok(counted);
            }
        }
        let value = caught(self.name(), || self.function.inner().invoke_with_args(args))?;
        if let Some((loses, args, rows)) = &given {
            lost::check_made(self.name(), *loses, args, &value, *rows)?;
        }
        in_promised_zone(value, promised.data_type())
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        // What has a limit stays what it is.
        if self.estimate.is_some() {
            return Ok(ExprSimplifyResult::Original(args));
        }
        caught(self.name(), || self.function.inner().simplify(args, info))
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        caught(self.name(), || self.function.inner().preimage(args, literal, info))
    }

    fn short_circuits(&self) -> bool {
        self.function.inner().short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.function.inner().conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.function.inner().evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.function.inner().propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.function.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.function.inner().preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.function.inner().strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.inner().coerce_types(arg_types)
    }

    fn struct_field_mapping(&self, literal_args: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.function.inner().struct_field_mapping(literal_args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.inner().documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.function.inner().placement(args)
    }
}
