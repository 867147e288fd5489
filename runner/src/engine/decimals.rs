//! A floating-point number as a decimal: the one that it is shown as. Arrow multiplies the number by the power of ten, and
//! beyond 2^53 the product is another number: 316665.0 becomes 316664.999999999967232. The engine casts so wherever a decimal
//! meets a DOUBLE (a comparison, a join, CASE, UNION), so that equal numbers were different ones.

use std::fmt::{Debug, LowerExp};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType,
    Float32Type, Float64Type, i256,
};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::checked::sql_type;
use super::functions::over_arrays;

/// Whether a cast between these types is made here.
pub(super) fn casts(from: &DataType, to: &DataType) -> bool {
    from.is_floating() && to.is_decimal()
}

/// `CAST(number AS to)` of types for which [`casts`] holds; `or_null`: TRY_CAST.
pub(super) fn decimal(number: Expr, to: DataType, or_null: bool) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::new_from_impl(ToDecimal { to, or_null, signature }).call(vec![number])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToDecimal {
    to: DataType,
    or_null: bool,
    signature: Signature,
}

impl ScalarUDFImpl for ToDecimal {
    fn name(&self) -> &str {
        "to_decimal"
    }

    /// A name of its own: as the key of a join it becomes a column beside the number.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let number = args.first().map(|arg| arg.schema_name().to_string()).unwrap_or_default();
        Ok(format!("CAST({number} AS {})", sql_type(&self.to)))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| self.of(&arrays[0]))
    }
}

impl ToDecimal {
    fn of(&self, numbers: &ArrayRef) -> Result<ArrayRef> {
        match numbers.as_primitive_opt::<Float64Type>() {
            Some(numbers) => self.decimals(numbers, EXACT_BELOW_F64),
            None => self.decimals(cast(numbers, &DataType::Float32)?.as_primitive::<Float32Type>(), EXACT_BELOW_F32),
        }
    }

    fn decimals<F>(&self, numbers: &PrimitiveArray<F>, exact_below: f64) -> Result<ArrayRef>
    where
        F: ArrowPrimitiveType<Native: Into<f64> + Debug + LowerExp>,
    {
        match self.to {
            DataType::Decimal32(precision, scale) => {
                let narrow = |value: i256| value.to_i128()?.try_into().ok();
                self.of_width::<F, Decimal32Type>(numbers, exact_below, (precision, scale), narrow)
            }
            DataType::Decimal64(precision, scale) => {
                let narrow = |value: i256| value.to_i128()?.try_into().ok();
                self.of_width::<F, Decimal64Type>(numbers, exact_below, (precision, scale), narrow)
            }
            DataType::Decimal128(precision, scale) => {
                self.of_width::<F, Decimal128Type>(numbers, exact_below, (precision, scale), i256::to_i128)
            }
            DataType::Decimal256(precision, scale) => {
                self.of_width::<F, Decimal256Type>(numbers, exact_below, (precision, scale), Some)
            }
            ref other => exec_err!("{} is no decimal", sql_type(other)),
        }
    }

    /// Decimals of so many bytes; `narrow` is a number in them, if it fits.
    fn of_width<F, T>(
        &self,
        numbers: &PrimitiveArray<F>,
        exact_below: f64,
        (precision, scale): (u8, i8),
        narrow: impl Fn(i256) -> Option<T::Native>,
    ) -> Result<ArrayRef>
    where
        F: ArrowPrimitiveType<Native: Into<f64> + Debug + LowerExp>,
        T: DecimalType,
    {
        let decimal = |number: F::Native| {
            let value = near(number.into(), scale, exact_below).or_else(|| of_digits(&format!("{number:e}"), scale));
            match value.and_then(&narrow).filter(|value| T::is_valid_decimal_precision(*value, precision)) {
                None if !self.or_null => exec_err!(
                    "{} does not hold {number:?}: CAST what it meets AS DOUBLE, or the number with TRY_CAST",
                    sql_type(&self.to)
                ),
                value => Ok(value),
            }
        };
        let values = numbers.iter().map(|number| number.map_or(Ok(None), &decimal));
        let values = values.collect::<Result<PrimitiveArray<T>>>()?;
        Ok(Arc::new(values.with_precision_and_scale(precision, scale)?))
    }
}

/// Below this the product with a power of ten is less than a hundredth from that of the number as it is shown: half a unit in
/// the last place of each of the two.
const EXACT_BELOW_F64: f64 = (1_u64 << 44) as f64;
/// The same for numbers of 32 bits.
const EXACT_BELOW_F32: f64 = (1_u64 << 15) as f64;
/// How far the product may be from a whole number, so that the rounding is certain.
const CERTAIN: f64 = 0.49;
/// The last power of ten that a double holds exactly.
const EXACT_POWER: i8 = 22;

/// The number times ten to the scale where doubles tell it for certain.
fn near(number: f64, scale: i8, exact_below: f64) -> Option<i256> {
    if !(0..=EXACT_POWER).contains(&scale) {
        return None;
    }
    let product = number * 10_f64.powi(i32::from(scale));
    let whole = product.round();
    (product.abs() < exact_below && (product - whole).abs() < CERTAIN).then(|| i256::from_i128(whole as i128))
}

/// The number of these digits, `-1.25e-7`, times ten to the scale; half a unit goes away from zero. `None`: it is no number,
/// or has too many digits.
fn of_digits(shown: &str, scale: i8) -> Option<i256> {
    let (digits, exponent) = shown.split_once('e')?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = exponent.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()? + i32::from(scale);
    if number == 0 {
        return Some(i256::ZERO);
    }
    let number = i256::from_i128(number);
    if let Ok(shift) = u32::try_from(shift) {
        return number.checked_mul(power_of_ten(shift)?);
    }
    // A double has 17 digits: what has lost more of them is nothing.
    let Some(divisor) = power_of_ten(shift.unsigned_abs()) else { return Some(i256::ZERO) };
    let (whole, rest) = (number.checked_div(divisor)?, number.checked_rem(divisor)?);
    let rest = if rest.is_negative() { rest.wrapping_neg() } else { rest };
    let away = i256::from_i128(if number.is_negative() { -1 } else { 1 });
    // Not rest * 2: it may not fit.
    Some(if rest >= divisor.wrapping_sub(rest) { whole.wrapping_add(away) } else { whole })
}

fn power_of_ten(exponent: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(exponent)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, Float32Array, Float64Array};
    use datafusion::arrow::util::display::array_value_to_string;

    use super::*;
    use crate::random::Random;

    fn to(to: DataType, numbers: ArrayRef, or_null: bool) -> Result<Vec<String>> {
        let cast = ToDecimal { to, or_null, signature: Signature::any(1, Volatility::Immutable) };
        let values = cast.of(&numbers)?;
        Ok((0..values.len()).map(|row| array_value_to_string(&values, row).unwrap()).collect())
    }

    fn of(number: f64, precision: u8, scale: i8) -> Result<String> {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![number]));
        to(DataType::Decimal128(precision, scale), numbers, false).map(|mut values| values.remove(0))
    }

    #[test]
    fn a_number_is_the_decimal_that_it_is_shown_as() {
        for (number, precision, scale, expected) in [
            (316_665.0, 30, 15, "316665.000000000000000"),
            (-316_665.25, 30, 15, "-316665.250000000000000"),
            (0.1, 38, 20, "0.10000000000000000000"),
            (0.07, 10, 2, "0.07"),
            (1.005, 10, 2, "1.01"),
            (-1.005, 10, 2, "-1.01"),
            (1.15, 10, 1, "1.2"),
            (2.5, 3, 0, "3"),
            (-2.5, 3, 0, "-3"),
            (1e-300, 38, 38, "0.00000000000000000000000000000000000000"),
            (-0.0, 5, 2, "0.00"),
            (123_456.0, 6, -2, "123500"),
            (9_007_199_254_740_993.0, 38, 0, "9007199254740992"),
            (1e37, 38, 0, "10000000000000000000000000000000000000"),
            (99.99, 4, 2, "99.99"),
        ] {
            assert_eq!(of(number, precision, scale).unwrap(), expected, "{number}");
        }
        let numbers: ArrayRef = Arc::new(Float32Array::from(vec![Some(0.1_f32), None, Some(316_665.3)]));
        let expected = ["0.1000000000", "", "316665.3000000000"];
        assert_eq!(to(DataType::Decimal64(18, 10), numbers, false).unwrap(), expected);
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1e60]));
        let wide = to(DataType::Decimal256(76, 10), numbers, false).unwrap();
        assert_eq!(wide, [format!("1{}.0000000000", "0".repeat(60))]);
    }

    #[test]
    fn what_does_not_fit_is_refused_or_null_where_that_is_asked_for() {
        for number in [f64::NAN, f64::INFINITY, f64::MAX, -1e21, 99.995, -100.0] {
            let told = of(number, 4, 2).unwrap_err().to_string();
            assert!(told.contains(&format!("DECIMAL(4,2) does not hold {number:?}")), "{told}");
            let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(number), Some(1.0), None]));
            assert_eq!(to(DataType::Decimal128(4, 2), numbers, true).unwrap(), ["", "1.00", ""]);
        }
    }

    /// The quick way gives what the digits give.
    #[test]
    fn both_ways_agree() {
        let mut random = Random::new(19);
        let (mut quick, mut close) = (0, 0);
        for _ in 0..200_000 {
            let scale = random.below(20) as i8;
            let bits = random.below(50);
            let whole = random.below(1 << bits) as f64;
            let number = (whole + random.below(2001) as f64 / 2000.0) / 10_f64.powi(random.below(18) as i32);
            let expected = of_digits(&format!("{number:e}"), scale);
            if let Some(value) = near(number, scale, EXACT_BELOW_F64) {
                quick += 1;
                assert_eq!(Some(value), expected, "{number} with {scale}");
            }
            let number = number as f32;
            if let Some(value) = near(f64::from(number), scale, EXACT_BELOW_F32) {
                close += 1;
                assert_eq!(Some(value), of_digits(&format!("{number:e}"), scale), "{number} with {scale}");
            }
        }
        assert!(quick > 10_000 && close > 10_000, "{quick} and {close} of the quick way");
    }
}
