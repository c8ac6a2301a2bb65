//! What each format makes of each matrix of a checkpoint: its size, and what is lost.

use std::path::PathBuf;
use std::time::Instant;

use autoglm::Inventory;
use autoglm_core::{Files, Run, Workers};
use autoglm_kernels::layout::Layout;
use autoglm_kernels::{Isa, hadamard};
use autoglm_quant::{Fidelity, Format, Group, Packing, Parts, Scheme, fidelity};
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::export::{Progress, threads};

/// Print what each format makes of each matrix of a checkpoint.
///
/// Per linear map and format: bits per weight, with scales, factors and padding, and what is lost,
/// ‖W − Ŵ‖ / ‖W‖ in Frobenius's norm. `block` is the width of the blocks that the rotation turns; 128 where
/// 128 divides the input's width, less elsewhere, and 1 says that nothing is rotated. The schemes at the
/// end are what `--precision` and `export` make: the head in groups of 128, pictures in 8 bits.
///
/// Use `cargo run --release -p xtask -- quant-report …` for large checkpoints: it is many times as fast.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The checkpoint of floats
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// A column: its name, what it packs, and whether that is rotated.
const COLUMNS: [(&str, Packing, bool); 6] = [
    ("int8", Packing::Eight { group: None }, true),
    ("int8-unrotated", Packing::Eight { group: None }, false),
    ("int8-g128", Packing::Eight { group: Some(Group::G128) }, true),
    ("int4-g32", Packing::Four { group: Group::G32 }, true),
    ("int4-g64", Packing::Four { group: Group::G64 }, true),
    ("int4-g128", Packing::Four { group: Group::G128 }, true),
];

const SCHEMES: [(&str, Scheme); 2] = [("int8", Scheme::int8()), ("int4", Scheme::int4())];

/// What the report says.
#[derive(Debug)]
struct Report {
    rows: Vec<Row>,
    totals: [Fidelity; COLUMNS.len()],
    schemes: [Fidelity; SCHEMES.len()],
    layout: Layout,
    threads: usize,
    seconds: f64,
}

#[derive(Debug)]
struct Row {
    name: String,
    shape: [usize; 2],
    block: usize,
    columns: Vec<Fidelity>,
}

/// # Errors
/// The checkpoint is damaged, quantised already, or has a weight that is no number.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let inventory = Inventory::of(&Files::directory(&arguments.model)?)?;
    let workers = Workers::new(threads(arguments.threads))?;
    let report = Report::of(&inventory, &Run::new(&workers))?;
    if arguments.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

impl Report {
    fn of(inventory: &Inventory, run: &Run<'_>) -> Result<Self> {
        let (start, isa) = (Instant::now(), Isa::best());
        let layout = Layout::of(isa);
        let members = || inventory.maps.iter().flatten();
        let mut progress = Progress::new(members().map(|member| member.out as u64 * member.inp as u64).sum());
        let mut report = Self {
            rows: Vec::new(),
            totals: Default::default(),
            schemes: Default::default(),
            layout,
            threads: run.threads(),
            seconds: 0.0,
        };
        for member in members() {
            progress.step(0, &member.name);
            let matrix = inventory.checkpoint.matrix(&format!("{}.weight", member.name), member.out, member.inp)?;
            let parts = Parts::new(vec![(member.name.clone(), matrix)], member.inp)?;
            let formats = COLUMNS.map(|(_, packing, rotated)| (packing, rotated));
            let columns = fidelity(run, isa, layout, &formats, &parts)?;
            report.totals.iter_mut().zip(&columns).for_each(|(total, column)| *total += *column);
            for (total, (_, scheme)) in report.schemes.iter_mut().zip(SCHEMES) {
                let format = scheme.format(&member.name);
                let column = COLUMNS.iter().zip(&columns).find(|((_, packing, rotated), _)| {
                    *rotated == scheme.rotated() && format == Format::Packed(*packing)
                });
                *total += column.map(|(_, column)| *column).unwrap_or_default();
            }
            let (shape, block) = ([member.out, member.inp], hadamard::block(member.inp));
            report.rows.push(Row { name: member.name.clone(), shape, block, columns });
            progress.step(member.out as u64 * member.inp as u64, "");
        }
        report.seconds = start.elapsed().as_secs_f64();
        Ok(report)
    }

    fn table(&self) -> String {
        let name = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("total".len());
        let mut text = format!("{:<name$}  {:>14}  block", "bits per weight, relative error", "shape");
        COLUMNS.iter().for_each(|(column, ..)| text += &format!("  {column:>14}"));
        let cell = |column: &Fidelity| {
            format!("  {:>6.3} {:>6.2}%", column.bits_per_weight(), 100.0 * column.relative_error())
        };
        for Row { name: module, shape: [n, k], block, columns } in &self.rows {
            text += &format!("\n{module:<name$}  {:>14}  {block:>5}", format!("{n} x {k}"));
            columns.iter().for_each(|column| text += &cell(column));
        }
        let weights = self.totals[0].weights;
        text += &format!("\n{:<name$}  {weights:>14}       ", "total");
        self.totals.iter().for_each(|total| text += &cell(total));
        for ((scheme, _), total) in SCHEMES.iter().zip(&self.schemes) {
            text += &format!(
                "\n--precision {scheme}: {:.3} bits per weight, {:.3} GB, relative error {:.2} %",
                total.bits_per_weight(),
                total.bytes as f64 / 1e9,
                100.0 * total.relative_error()
            );
        }
        let odd = self.rows.iter().filter(|row| row.block < hadamard::BLOCK).count();
        text += &format!(
            "\n{} maps, {odd} of them with blocks below {}; for {}, {} threads, {:.1} s\n",
            self.rows.len(),
            hadamard::BLOCK,
            self.layout.name(),
            self.threads,
            self.seconds
        );
        text
    }

    fn json(&self) -> Value {
        let cell = |column: &Fidelity| {
            let (bits, error) = (column.bits_per_weight(), column.relative_error());
            json!({ "bits_per_weight": bits, "relative_error": error, "bytes": column.bytes })
        };
        let columns = |found: &[Fidelity]| -> Map<String, Value> {
            COLUMNS.iter().zip(found).map(|((name, ..), column)| ((*name).to_owned(), cell(column))).collect()
        };
        let row = |row: &Row| json!({ "name": row.name, "shape": row.shape, "block": row.block, "formats": columns(&row.columns) });
        let schemes = SCHEMES.iter().zip(&self.schemes);
        json!({
            "layout": self.layout.name(),
            "threads": self.threads,
            "seconds": self.seconds,
            "maps": self.rows.iter().map(row).collect::<Vec<_>>(),
            "weights": self.totals[0].weights,
            "total": columns(&self.totals),
            "schemes": schemes.map(|((name, _), total)| ((*name).to_owned(), cell(total))).collect::<Map<_, _>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_tiny_checkpoint_has_a_row_per_map_and_totals_that_add_up() {
        let files = Files::directory(workspace::root().join("models/autoglm-tiny")).unwrap();
        let inventory = Inventory::of(&files).unwrap();
        let workers = Workers::new(2).unwrap();
        let report = Report::of(&inventory, &Run::new(&workers)).unwrap();
        let object = report.json();
        let maps = object["maps"].as_array().unwrap();
        assert_eq!(maps.len(), inventory.maps.iter().map(Vec::len).sum::<usize>());
        let patches = maps.iter().find(|map| map["name"] == "model.visual.patch_embed.proj").unwrap();
        assert_eq!((&patches["shape"], &patches["block"]), (&json!([128, 1176]), &json!(8)));
        let error = |column: &str| object["total"][column]["relative_error"].as_f64().unwrap();
        let bits = |column: &str| object["total"][column]["bits_per_weight"].as_f64().unwrap();
        // One group more per 32 inputs costs half a bit and buys accuracy; the rest is what pads.
        assert!(
            error("int8") < 0.015 && error("int4-g32") < error("int4-g64") && error("int4-g64") < error("int4-g128")
        );
        assert!(bits("int4-g32") > bits("int4-g64") + 0.2 && bits("int4-g128") > 4.0 && bits("int8") > 8.0);
        let of_maps: u64 = maps.iter().map(|map| map["formats"]["int8"]["bytes"].as_u64().unwrap()).sum();
        assert_eq!(object["total"]["int8"]["bytes"], of_maps);
        let table = report.table();
        assert_eq!(table.lines().count(), 1 + maps.len() + 1 + SCHEMES.len() + 1);
        assert!(table.contains("model.visual.patch_embed.proj") && table.contains("128 x 1176      8"), "{table}");
    }
}
