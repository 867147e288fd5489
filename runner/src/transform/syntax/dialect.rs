//! The SQL that queries are written in: the parser's generic dialect, and functions in the place of values
//! (`array_filter(xs, x -> x > 1)`).

use std::any::TypeId;

use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The dialect.
#[derive(Debug)]
pub(super) struct Sql;

/// What the generic dialect says, for each of its features.
macro_rules! as_generic {
    ($($feature:ident),* $(,)?) => {
        impl Dialect for Sql {
            /// The parser asks in some places whether the dialect is the generic one.
            fn dialect(&self) -> TypeId {
                TypeId::of::<GenericDialect>()
            }

            fn is_delimited_identifier_start(&self, letter: char) -> bool {
                GenericDialect.is_delimited_identifier_start(letter)
            }

            fn is_identifier_start(&self, letter: char) -> bool {
                GenericDialect.is_identifier_start(letter)
            }

            fn is_identifier_part(&self, letter: char) -> bool {
                GenericDialect.is_identifier_part(letter)
            }

            fn supports_lambda_functions(&self) -> bool {
                true
            }

            $(fn $feature(&self) -> bool {
                GenericDialect.$feature()
            })*
        }
    };
}

as_generic!(
    supports_unicode_string_literal,
    supports_partition_by_after_order_by,
    supports_array_join_syntax,
    supports_group_by_expr,
    supports_group_by_with_modifier,
    supports_left_associative_joins_without_parens,
    supports_connect_by,
    supports_match_recognize,
    supports_pipe_operator,
    supports_start_transaction_modifier,
    supports_window_function_null_treatment_arg,
    supports_dictionary_syntax,
    supports_window_clause_named_window_reference,
    supports_parenthesized_set_variables,
    supports_select_wildcard_except,
    support_map_literal_syntax,
    allow_extract_custom,
    allow_extract_single_quotes,
    supports_extract_comma_syntax,
    supports_create_view_comment_syntax,
    supports_parens_around_table_factor,
    supports_values_as_table_factor,
    supports_create_index_with_clause,
    supports_explain_with_utility_options,
    supports_limit_comma,
    supports_update_order_by,
    supports_from_first_select,
    supports_projection_trailing_commas,
    supports_asc_desc_in_column_definition,
    supports_try_convert,
    supports_bitwise_shift_operators,
    supports_comment_on,
    supports_load_extension,
    supports_named_fn_args_with_assignment_operator,
    supports_struct_literal,
    supports_empty_projections,
    supports_nested_comments,
    supports_multiline_comment_hints,
    supports_user_host_grantee,
    supports_string_escape_constant,
    supports_array_typedef_with_brackets,
    supports_match_against,
    supports_set_names,
    supports_comma_separated_set_assignments,
    supports_filter_during_aggregation,
    supports_select_wildcard_exclude,
    supports_data_type_signed_suffix,
    supports_interval_options,
    supports_quote_delimited_string,
    supports_select_wildcard_replace,
    supports_select_wildcard_ilike,
    supports_select_wildcard_rename,
    supports_optimize_table,
    supports_install,
    supports_detach,
    supports_prewhere,
    supports_with_fill,
    supports_limit_by,
    supports_interpolate,
    supports_settings,
    supports_select_format,
    supports_comment_optimizer_hint,
    supports_constraint_keyword_without_name,
    supports_key_column_option,
    supports_comma_separated_trim,
    supports_cte_without_as,
    supports_select_item_multi_column_alias,
    supports_xml_expressions,
);

/// Functions that take a function.
const TAKES_A_FUNCTION: [&str; 12] = [
    "array_transform",
    "list_transform",
    "array_filter",
    "list_filter",
    "array_any_match",
    "list_any_match",
    "any_match",
    "array_first",
    "list_first",
    "transform",
    "filter",
    "array_all_match",
];

/// With functions as values, the parser reads `name -> 'key'` as one, although it takes the key out of JSON. Such a name
/// gets parentheses, unless it stands in a call of a function that takes a function.
pub(super) fn keys_of_json(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut read: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    // For each open parenthesis, whether it is such a call's.
    let mut open: Vec<bool> = vec![];
    let words = |tokens: &[TokenWithSpan], from: usize| {
        let mut next = tokens[from..].iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
        (next.next().map(|token| token.token.clone()), next.next().map(|token| token.token.clone()))
    };
    let mut before = Token::EOF;
    for (index, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => {
                open.push(matches!(&before, Token::Word(word) if TAKES_A_FUNCTION.contains(&word.value.to_lowercase().as_str())));
            }
            Token::RParen => {
                open.pop();
            }
            _ => {}
        }
        let is_name = matches!(&token.token, Token::Word(word) if word.keyword != Keyword::END);
        let takes_key = is_name
            && !matches!(before, Token::Period | Token::DoubleColon)
            && !open.last().copied().unwrap_or_default()
            && matches!(
                words(&tokens, index + 1),
                (Some(Token::Arrow), Some(Token::SingleQuotedString(_) | Token::Number(..)))
            );
        if takes_key {
            let sign = |sign| TokenWithSpan { token: sign, span: token.span };
            read.extend([
                sign(Token::LParen),
                sign(Token::LParen),
                token.clone(),
                sign(Token::RParen),
                sign(Token::RParen),
            ]);
        } else {
            read.push(token.clone());
        }
        if !matches!(token.token, Token::Whitespace(_)) {
            before = token.token.clone();
        }
    }
    read
}
