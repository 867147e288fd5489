//! A function that gives back what it gets, under a name of its own: see `transform::syntax::keys`.

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// Its name, with blanks, so that no query calls it by chance.
pub(crate) const SAME: &str = "the same as";

pub(super) fn same() -> ScalarUDF {
    ScalarUDF::new_from_impl(Same { signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Same {
    signature: Signature,
}

impl ScalarUDFImpl for Same {
    fn name(&self) -> &str {
        SAME
    }

    /// A CAST has the name of what it casts; here it has its own.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(match args.first() {
            Some(Expr::Cast(cast)) => {
                let to = crate::engine::checked::sql_type(cast.field.data_type());
                format!("CAST({} AS {to})", cast.expr.schema_name())
            }
            Some(other) => other.schema_name().to_string(),
            None => SAME.to_owned(),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::clone(&args.arg_fields[0]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(args.args[0].clone())
    }
}
