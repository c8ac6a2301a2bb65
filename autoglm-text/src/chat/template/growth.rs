//! Refuses templates that could build values without end.
//!
//! The engine counts steps, but comparing, printing or hashing one value is one step however much is
//! inside of it, and lists that hold each other sixty times over hold more than any machine can visit.
//! So before a template runs, this walk bounds how many copies of other values each of its names can
//! hold: its *weight*. A name whose weight rises each time a loop or a macro runs is refused, and so is
//! one that is written out to more than [`LIMIT`].

use std::collections::{HashMap, HashSet};

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, GetAttr, Macro, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;

use crate::{Error, Result};

/// Copies of other values in a value. Real templates stay below ten.
const LIMIT: u32 = 24;

/// Walks over the template until nothing is learnt. Each teaches all that one step of the template can;
/// real templates need three.
const PASSES: usize = 100;

/// Text, numbers and what is undefined: never a list.
const SCALAR: u32 = 0;

/// The conversation and its parts, as the caller built them.
const GIVEN: u32 = 1;

/// The least of what the template builds. Its items weigh one less than itself.
const BUILT: u32 = 2;

/// What the caller passes beside text and flags.
const GIVEN_NAMES: [&str; 3] = ["messages", "tools", "documents"];

/// Names whose meaning the walk relies on.
const FIXED_NAMES: [&str; 3] = ["namespace", "range", "loop"];

/// # Errors
/// [`Error::Template`] for a syntax error, [`Error::TemplateGrowth`] for a template that is refused.
pub(super) fn check(source: &str, syntax: SyntaxConfig) -> Result<()> {
    let template = parse(source, super::NAME, syntax).map_err(Error::Template)?;
    let mut walk = Walk::default();
    for _ in 0..PASSES {
        walk.changed = false;
        walk.now.clear();
        walk.statement(&template)?;
        if !walk.changed {
            return Ok(());
        }
    }
    refuse(1, "assigns its names in too many rounds")
}

/// What a weight is known of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder<'a> {
    Name(&'a str),
    /// An attribute of any namespace.
    Attribute(&'a str),
    /// The parameters of all macros.
    Parameters,
    /// What all loops run over.
    LoopItems,
}

#[derive(Default)]
struct Walk<'a> {
    /// The most that was ever assigned, which is what a loop or a macro may find.
    ever: HashMap<Holder<'a>, u32>,
    /// The most that was assigned further up, which is what a statement that runs once finds.
    now: HashMap<Holder<'a>, u32>,
    namespaces: HashSet<&'a str>,
    /// Whether the statement may run more than once.
    repeats: bool,
    changed: bool,
}

impl<'a> Walk<'a> {
    fn weight(&self, holder: Holder<'a>) -> u32 {
        let known = if self.repeats { &self.ever } else { &self.now };
        let given = matches!(holder, Holder::Name(name) if GIVEN_NAMES.contains(&name));
        known.get(&holder).copied().unwrap_or_default().max(if given { GIVEN } else { SCALAR })
    }

    fn hold(&mut self, holder: Holder<'a>, weight: u32) {
        let now = self.now.entry(holder).or_default();
        *now = weight.max(*now);
        let ever = self.ever.entry(holder).or_default();
        self.changed |= weight > *ever;
        *ever = weight.max(*ever);
    }

    fn body(&mut self, statements: &[Stmt<'a>]) -> Result<()> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    /// A body that may run more than once.
    fn repeated(&mut self, statements: &[Stmt<'a>]) -> Result<()> {
        let outside = std::mem::replace(&mut self.repeats, true);
        let walked = self.body(statements);
        self.repeats = outside;
        walked
    }

    fn statement(&mut self, statement: &Stmt<'a>) -> Result<()> {
        match statement {
            Stmt::Template(template) => self.body(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr).map(drop),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
            Stmt::ForLoop(each) => {
                let mut items = match &each.iter {
                    Expr::Call(call) if matches!(&call.expr, Expr::Var(name) if name.id == "range") => {
                        self.expression(&each.iter)?;
                        SCALAR
                    }
                    iter => item(self.expression(iter)?),
                };
                if each.recursive {
                    items = items.max(self.ever.get(&Holder::Parameters).copied().unwrap_or_default());
                }
                self.hold(Holder::LoopItems, items);
                self.assign(&each.target, items)?;
                let outside = std::mem::replace(&mut self.repeats, true);
                let filter = each.filter_expr.as_ref().map_or(Ok(SCALAR), |filter| self.expression(filter));
                self.repeats = outside;
                filter?;
                self.repeated(&each.body)?;
                self.body(&each.else_body)
            }
            Stmt::IfCond(branch) => {
                self.expression(&branch.expr)?;
                self.body(&branch.true_body)?;
                self.body(&branch.false_body)
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    let weight = self.expression(value)?;
                    self.assign(target, weight)?;
                }
                self.body(&with.body)
            }
            Stmt::Set(set) => match (&set.target, &set.expr) {
                (Expr::Var(name), Expr::Call(call)) if is_name(&call.expr, "namespace") => {
                    self.changed |= self.namespaces.insert(name.id);
                    self.assign(&set.target, SCALAR)?;
                    call.args.iter().try_for_each(|argument| match argument {
                        CallArg::Kwarg(attribute, value) => {
                            let weight = self.expression(value)?;
                            self.hold(Holder::Attribute(attribute), weight);
                            Ok(())
                        }
                        _ => refuse(call.span().start_line, "gives `namespace` something else than named values"),
                    })
                }
                (target, value) => {
                    let weight = self.expression(value)?;
                    self.assign(target, weight)
                }
            },
            Stmt::SetBlock(set) => {
                self.body(&set.body)?;
                let weight = set.filter.as_ref().map_or(Ok(SCALAR), |filter| self.expression(filter))?;
                self.assign(&set.target, weight)
            }
            Stmt::AutoEscape(block) => {
                self.expression(&block.enabled)?;
                self.body(&block.body)
            }
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter)?;
                self.body(&block.body)
            }
            Stmt::Macro(declared) => {
                if FIXED_NAMES.contains(&declared.name) {
                    return refuse(declared.span().start_line, "gives `namespace`, `range` or `loop` another meaning");
                }
                self.hold(Holder::Name(declared.name), GIVEN);
                self.declare(declared)
            }
            Stmt::CallBlock(block) => {
                self.call(&block.call)?;
                self.declare(&block.macro_decl)
            }
            Stmt::Do(block) => self.call(&block.call).map(drop),
        }
    }

    fn declare(&mut self, declared: &Macro<'a>) -> Result<()> {
        let outside = std::mem::replace(&mut self.repeats, true);
        let walked = self.parameters(declared).and_then(|()| self.body(&declared.body));
        self.repeats = outside;
        walked
    }

    fn parameters(&mut self, declared: &Macro<'a>) -> Result<()> {
        self.hold(Holder::Name("caller"), GIVEN);
        let mut weight = self.weight(Holder::Parameters);
        for default in &declared.defaults {
            weight = weight.max(self.expression(default)?);
        }
        declared.args.iter().try_for_each(|parameter| self.assign(parameter, weight))
    }

    fn assign(&mut self, target: &Expr<'a>, weight: u32) -> Result<()> {
        let line = target.span().start_line;
        match target {
            Expr::Var(name) if FIXED_NAMES.contains(&name.id) => {
                refuse(line, "gives `namespace`, `range` or `loop` another meaning")
            }
            Expr::Var(name) => {
                self.hold(Holder::Name(name.id), weight);
                Ok(())
            }
            Expr::GetAttr(attribute) => {
                self.hold(Holder::Attribute(attribute.name), weight);
                Ok(())
            }
            Expr::List(targets) => targets.items.iter().try_for_each(|target| self.assign(target, item(weight))),
            _ => refuse(line, "assigns to what is no name"),
        }
    }

    /// The weight of an expression's value.
    fn expression(&mut self, expression: &Expr<'a>) -> Result<u32> {
        let line = expression.span().start_line;
        match expression {
            Expr::Var(name) if name.id == "loop" || name.id == "range" || name.id == "namespace" => {
                refuse(line, "passes `loop`, `range` or `namespace` on as a value")
            }
            Expr::Var(name) if self.namespaces.contains(name.id) => {
                refuse(line, "uses a namespace as a whole and not by an attribute")
            }
            Expr::Var(name) => Ok(self.weight(Holder::Name(name.id))),
            Expr::Const(constant) => Ok(match constant.value.kind() {
                ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => BUILT,
                _ => SCALAR,
            }),
            Expr::List(list) => self.build(line, list.items.iter()),
            Expr::Tuple(tuple) => self.build(line, tuple.items.iter()),
            Expr::Map(map) => self.build(line, map.keys.iter().chain(&map.values)),
            Expr::Slice(slice) => {
                for bound in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.expression(bound)?;
                }
                self.build(line, [&slice.expr].into_iter())
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr).map(|_| SCALAR),
            Expr::BinOp(operation) => {
                let (left, right) = (self.expression(&operation.left)?, self.expression(&operation.right)?);
                match operation.op {
                    BinOpKind::ScAnd | BinOpKind::ScOr => Ok(left.max(right)),
                    // Adding text or a number to a list fails.
                    BinOpKind::Add if left == SCALAR || right == SCALAR => Ok(SCALAR),
                    BinOpKind::Add => within(line, 1 + left + right),
                    BinOpKind::Mul if left.max(right) == SCALAR => Ok(SCALAR),
                    BinOpKind::Mul if is_text(&operation.left) || is_text(&operation.right) => Ok(SCALAR),
                    BinOpKind::Mul => refuse(line, "multiplies what may be a list"),
                    _ => Ok(SCALAR),
                }
            }
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr)?;
                for operand in &comparison.ops {
                    self.expression(&operand.expr)?;
                }
                Ok(SCALAR)
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr)?;
                let otherwise = choice.false_expr.as_ref().map_or(Ok(SCALAR), |value| self.expression(value))?;
                Ok(self.expression(&choice.true_expr)?.max(otherwise))
            }
            Expr::Filter(filter) => {
                let input = filter.expr.as_ref().map_or(Ok(SCALAR), |value| self.expression(value))?;
                let (most, sum) = self.arguments(&filter.args)?;
                match filter.name {
                    "upper" | "lower" | "title" | "capitalize" | "replace" | "length" | "count" | "trim" | "join"
                    | "round" | "abs" | "int" | "float" | "string" | "bool" | "indent" | "tojson" | "escape" | "e" => {
                        Ok(SCALAR)
                    }
                    "default" | "d" | "first" | "last" | "min" | "max" | "attr" | "safe" => Ok(input.max(most)),
                    "split" | "lines" => Ok(BUILT),
                    "list" | "reverse" | "sort" | "unique" | "select" | "reject" | "selectattr" | "rejectattr" => {
                        within(line, 1 + input.max(GIVEN) + sum)
                    }
                    // `items` and `dictsort` make pairs, `map` makes what its filter makes.
                    _ => within(line, 2 + input.max(GIVEN) + sum),
                }
            }
            Expr::Test(test) => {
                self.expression(&test.expr)?;
                self.arguments(&test.args).map(|_| SCALAR)
            }
            Expr::GetAttr(attribute) => self.attribute(attribute),
            Expr::GetItem(lookup) => match (&lookup.expr, &lookup.subscript_expr) {
                (Expr::Var(of), Expr::Const(name))
                    if self.namespaces.contains(of.id) && name.value.as_str().is_some() =>
                {
                    Ok(self.most_of_attributes().max(item(self.weight(Holder::Name(of.id)))))
                }
                (of, subscript) => {
                    self.expression(subscript)?;
                    self.expression(of).map(item)
                }
            },
            Expr::Call(call) => self.call(call),
        }
    }

    /// For an attribute whose name the tree holds as a value.
    fn most_of_attributes(&self) -> u32 {
        let known = if self.repeats { &self.ever } else { &self.now };
        let weights =
            known.iter().filter(|(holder, _)| matches!(holder, Holder::Attribute(_))).map(|(_, weight)| *weight);
        weights.max().unwrap_or_default()
    }

    fn attribute(&mut self, attribute: &GetAttr<'a>) -> Result<u32> {
        match &attribute.expr {
            Expr::Var(of) if of.id == "loop" => match attribute.name {
                "previtem" | "nextitem" => Ok(self.weight(Holder::LoopItems)),
                _ => Ok(SCALAR),
            },
            Expr::Var(of) if self.namespaces.contains(of.id) => {
                Ok(self.weight(Holder::Attribute(attribute.name)).max(item(self.weight(Holder::Name(of.id)))))
            }
            of => self.expression(of).map(item),
        }
    }

    fn call(&mut self, call: &Call<'a>) -> Result<u32> {
        let (most, sum) = self.arguments(&call.args)?;
        // Whatever is called, it may be a macro.
        self.hold(Holder::Parameters, most);
        let line = call.expr.span().start_line;
        match &call.expr {
            Expr::Var(name) if name.id == "namespace" => {
                refuse(line, "calls `namespace` elsewhere than in `set NAME = namespace(…)`")
            }
            Expr::Var(name) if name.id == "range" => Ok(LIMIT),
            Expr::Var(name) if name.id == "loop" => Ok(SCALAR),
            Expr::GetAttr(method) if is_name(&method.expr, "loop") => Ok(most),
            Expr::GetAttr(method) => {
                let of = self.expression(&method.expr)?;
                match method.name {
                    "items" => within(line, 2 + of.max(GIVEN) + sum),
                    "keys" | "values" => within(line, 1 + of.max(GIVEN) + sum),
                    "get" => Ok(item(of).max(most)),
                    "split" | "splitlines" => Ok(BUILT),
                    // Methods of text, which make text or numbers, and macros, which make text.
                    _ => Ok(SCALAR),
                }
            }
            called => self.expression(called).map(|_| SCALAR),
        }
    }

    /// The most and the sum of the arguments' weights.
    fn arguments(&mut self, arguments: &[CallArg<'a>]) -> Result<(u32, u32)> {
        let (mut most, mut sum) = (SCALAR, 0);
        for argument in arguments {
            let (CallArg::Pos(value)
            | CallArg::Kwarg(_, value)
            | CallArg::PosSplat(value)
            | CallArg::KwargSplat(value)) = argument;
            let weight = self.expression(value)?;
            most = most.max(weight);
            sum = within(value.span().start_line, sum + weight)?;
        }
        Ok((most, sum))
    }

    /// A value made of `parts`. Constants among them are as many as the source has.
    fn build<'e>(&mut self, line: u16, parts: impl Iterator<Item = &'e Expr<'a>>) -> Result<u32>
    where
        'a: 'e,
    {
        let mut weight = 1;
        for part in parts {
            let copies = self.expression(part)?.max(GIVEN);
            weight = within(line, weight + if is_constant(part) { 0 } else { copies })?;
        }
        Ok(weight.max(BUILT))
    }
}

/// The weight of what is inside of a value of `weight`.
fn item(weight: u32) -> u32 {
    if weight > GIVEN { weight - 1 } else { weight }
}

fn within(line: u16, weight: u32) -> Result<u32> {
    if weight > LIMIT { refuse(line, "puts lists into lists again and again") } else { Ok(weight) }
}

fn refuse<T>(line: u16, construct: &'static str) -> Result<T> {
    Err(Error::TemplateGrowth { line: line.into(), construct })
}

fn is_name(expression: &Expr<'_>, name: &str) -> bool {
    matches!(expression, Expr::Var(found) if found.id == name)
}

fn is_text(expression: &Expr<'_>) -> bool {
    matches!(expression, Expr::Const(constant) if constant.value.as_str().is_some())
}

fn is_constant(expression: &Expr<'_>) -> bool {
    match expression {
        Expr::Const(_) => true,
        Expr::UnaryOp(operation) => is_constant(&operation.expr),
        Expr::List(list) => list.items.iter().all(is_constant),
        Expr::Tuple(tuple) => tuple.items.iter().all(is_constant),
        Expr::Map(map) => map.keys.iter().chain(&map.values).all(is_constant),
        _ => false,
    }
}
