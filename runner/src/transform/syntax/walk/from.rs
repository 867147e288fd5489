//! What FROM reads: the job's tables, subqueries and joins.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, Join, JoinConstraint, ObjectName, Select, Spanned, TableFactor};

use super::super::super::error::{Position, QueryError};
use super::super::super::suggest;
use super::super::joins::{Sides, constraint};
use super::super::{Clause, place};
use super::{Flow, Walk, refuse};

impl Walk<'_> {
    pub(super) fn check_from(&mut self, select: &Select, start: Option<Position>) -> Flow {
        let Some(first) = select.from.first() else {
            return refuse(
                QueryError::new("this SELECT has no FROM")
                    .at(start)
                    .cure(format!("read the source: FROM {}", self.inputs.first_source())),
            );
        };
        let joined = first.joins.iter().map(|join| &join.relation);
        for joined in select.from.iter().skip(1).map(|second| &second.relation).chain(joined) {
            self.check_joined(joined)?;
        }
        if let Some(second) = select.from.get(1) {
            return refuse(
                QueryError::new("FROM has several tables")
                    .at(place(second.relation.span().start))
                    .cure("write JOIN … ON …"),
            );
        }
        for relation in std::iter::once(&first.relation).chain(first.joins.iter().map(|join| &join.relation)) {
            if let TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } =
                relation
            {
                self.tables.insert(alias.name.value.to_lowercase());
            }
        }
        ControlFlow::Continue(())
    }

    /// A table that another one is joined with; what it reads is looked at when the plan is known.
    fn check_joined(&mut self, joined: &TableFactor) -> Flow {
        let position = place(joined.span().start);
        self.note(Clause::Join, position);
        if is_unnest(joined) {
            return refuse(unnest_in_from(position));
        }
        // A table that does not exist is the more basic mistake.
        if let TableFactor::Table { name, .. } = joined {
            self.check_table(name)?;
        }
        if self.inputs.references.is_empty() {
            return refuse(
                QueryError::new("a join would have to keep all rows of the stream, which has no end")
                    .at(position)
                    .cure(
                        "compute both sides in one SELECT; a small table can be joined as one of the job's references",
                    ),
            );
        }
        ControlFlow::Continue(())
    }

    fn check_table(&self, name: &ObjectName) -> Flow {
        let known = match &name.0[..] {
            [part] => part.as_ident().is_some_and(|ident| self.tables.contains(&ident.value.to_lowercase())),
            _ => false,
        };
        if known {
            return ControlFlow::Continue(());
        }
        let is_input = |table: &&str| self.inputs.names().any(|input| table.eq_ignore_ascii_case(input));
        let mut tables: Vec<&str> = self.tables.iter().map(String::as_str).filter(|table| !is_input(table)).collect();
        tables.extend(self.inputs.names());
        tables.sort_unstable();
        let hint = suggest::hint(&name.to_string(), &tables, "the tables of this job are");
        refuse(QueryError::new(format!("there is no table {name}")).at(place(name.span().start)).cure(hint))
    }

    pub(super) fn walk_join(&mut self, join: &mut Join) -> Flow {
        let position = place(join.relation.span().start);
        self.walk_table(&mut join.relation)?;
        let Some((Sides::Both, constraint)) = constraint(&mut join.join_operator) else {
            let error = QueryError::new("this kind of join is not supported in a job").at(position);
            return refuse(error.cure("write LEFT JOIN … ON … or JOIN … ON …"));
        };
        match constraint {
            JoinConstraint::On(expr) => self.walk_expr(expr),
            JoinConstraint::Using(names) => {
                for name in names {
                    let mut idents: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                    idents.iter_mut().for_each(|ident| self.spell(ident));
                    *name = ObjectName::from(idents);
                }
                ControlFlow::Continue(())
            }
            JoinConstraint::Natural | JoinConstraint::None => {
                let error = QueryError::new("the join does not say which rows go together").at(position);
                refuse(error.cure("write ON and an equality, or USING (column)"))
            }
        }
    }

    pub(super) fn walk_table(&mut self, relation: &mut TableFactor) -> Flow {
        let position = place(relation.span().start);
        match relation {
            TableFactor::Table {
                name,
                args: None,
                version: None,
                sample: None,
                json_path: None,
                with_ordinality: false,
                with_hints,
                partitions,
                index_hints,
                alias: _,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => self.check_table(name),
            TableFactor::Table { name, args: Some(_), .. } => {
                let error = QueryError::new(format!("{name}(…) is a table function, which a job cannot read"))
                    .at(place(name.span().start));
                refuse(error.cure(format!("read the source: FROM {}", self.inputs.first_source())))
            }
            TableFactor::Derived { lateral: false, sample: None, subquery, .. } => self.walk_query(subquery),
            TableFactor::UNNEST { .. } => refuse(unnest_in_from(position)),
            other => {
                let words: String = other.to_string().chars().take(40).collect();
                let error = QueryError::new(format!("FROM {words} is not supported")).at(position);
                refuse(error.cure(format!("read the source: FROM {}", self.inputs.first_source())))
            }
        }
    }
}

fn is_unnest(relation: &TableFactor) -> bool {
    match relation {
        TableFactor::UNNEST { .. } => true,
        TableFactor::Table { name, args, .. } => args.is_some() && name.to_string().eq_ignore_ascii_case("unnest"),
        _ => false,
    }
}

fn unnest_in_from(position: Option<Position>) -> QueryError {
    QueryError::new("UNNEST does not stand in FROM here")
        .at(position)
        .cure("put it into the SELECT list: SELECT unnest(<list>) AS item, … FROM …")
}
