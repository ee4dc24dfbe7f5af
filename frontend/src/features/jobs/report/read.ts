/** Reads a job's report.json (docs/guides/report.md). Everything may be missing: older reports are shown too. */
import { at, intervalOf, isNode, listAt, type Node, nodeAt, numberOf, numbersOf, textOf } from "@/lib/tree";

export type Unit = "share" | "number" | "count" | "bytes" | "milliseconds" | "points" | "ratio";

/** A value with its 95 % interval. */
export interface Value {
  value: number;
  interval: [number, number] | null;
}

/** One line of the table: the same quantity of both models. `name` is a key below `report.measures`. */
export interface Measure {
  name: string;
  /** Fills the holes of the name: a metric, a split, a shape. */
  of: Record<string, string | number>;
  unit: Unit;
  dense: Value | null;
  sparse: Value | null;
  /** sparse - dense, where it was measured with an interval. */
  difference: Value | null;
  /** Unit of the difference. */
  differenceUnit: Unit;
}

export interface Counts {
  edges: [number, number];
  all: number[];
  kept: number[];
}

export interface Distribution {
  group: string;
  weight: Counts | null;
  score: Counts | null;
}

export interface MatrixPicture {
  name: string;
  stack: string;
  depth: number;
  kind: string;
  shape: [number, number];
  /** Share of the weights that stay. */
  density: number;
  rows: number[];
  columns: number[];
  cells: number[][] | null;
  emptyRows: number;
  emptyColumns: number;
  overlap: { jaccard: number; chance: number } | null;
  weight: Counts | null;
  score: Counts | null;
}

export interface Confusion {
  split: string;
  labels: string[];
  /** Rows are the true labels. */
  matrix: number[][];
}

export interface WrongRow {
  row: number;
  text: string;
  pair: string;
  gold: string;
  predicted: string;
  dense: string;
  probability: number | null;
}

export interface WrongRows {
  split: string;
  count: number;
  rows: WrongRow[];
}

/** A text that was generated, beside what was wanted and what the dense model wrote. */
export interface Sample {
  source: string;
  references: string[];
  text: string;
  dense: string;
}

/** What people read in percent. */
const SHARES = ["accuracy", "macro_f1", "micro_f1", "f1", "subset_accuracy"];
const SPLITS = ["validation", "test"];

export function unitOf(metric: string): Unit {
  return SHARES.includes(metric) ? "share" : "number";
}

function value(found: unknown, interval?: unknown): Value | null {
  const number = numberOf(found);
  return number === null ? null : { value: number, interval: intervalOf(interval) };
}

function line(
  name: string,
  of: Measure["of"],
  unit: Unit,
  dense: Value | null,
  sparse: Value | null,
  difference: Value | null = null,
): Measure[] {
  if (!dense && !sparse) return [];
  return [{ name, of, unit, dense, sparse, difference, differenceUnit: unit === "share" ? "points" : unit }];
}

/** The eight measures, as far as the report has them. */
export function measuresOf(report: unknown): Measure[] {
  return [
    ...quality(report),
    ...cost(report),
    ...time(report),
    ...loyalty(report),
    ...robustness(report),
    ...carbon(report),
  ];
}

function quality(report: unknown): Measure[] {
  const primary = textOf(at(report, "primary")) || "accuracy";
  return SPLITS.flatMap((split) => {
    const ours = nodeAt(report, "metrics", split);
    const theirs = nodeAt(report, "dense", split);
    const compared = nodeAt(report, "measures", "quality", "splits", split);
    return Object.keys(ours).flatMap((metric) => {
      if (numberOf(ours[metric]) === null) return [];
      const own = (node: Node) => at(node, "intervals", metric) ?? (metric === primary ? node.interval : undefined);
      return line(
        "quality",
        { metric, split },
        unitOf(metric),
        value(theirs[metric], own(theirs)),
        value(ours[metric], own(ours)),
        metric === primary ? value(compared.difference, compared.difference_interval) : null,
      );
    });
  });
}

function cost(report: unknown): Measure[] {
  const measures = nodeAt(report, "measures");
  const flops = nodeAt(measures, "flops");
  const pair = (name: string, unit: Unit, dense: unknown, sparse: unknown, of: Measure["of"] = {}) =>
    line(name, of, unit, value(dense), value(sparse));
  const size = nodeAt(measures, "size");
  const shape = {
    rows: numberOf(at(flops, "shape", "rows")) ?? 1,
    tokens: numberOf(at(flops, "shape", "tokens")) ?? 0,
  };
  const whole = at(flops, "dense", "total");
  const zeros = flops.sparse_with_zeros;
  return [
    ...pair("flops", "count", whole, at(flops, "sparse", "total"), shape),
    ...(numberOf(zeros) === null ? [] : pair("flopsReal", "count", whole, zeros, shape)),
    ...pair(
      "trainable",
      "count",
      at(measures, "trainable", "dense") ?? at(report, "params", "total"),
      at(measures, "trainable", "sparse") ?? at(report, "params", "trainable"),
    ),
    ...pair("nonzero", "count", at(report, "params", "total"), at(report, "params", "nonzero")),
    ...pair("bytes", "bytes", at(report, "bytes", "dense"), at(report, "bytes", "sparse")),
    ...pair("memory", "bytes", at(size, "memory", "dense"), at(size, "memory", "sparse")),
    ...line("sparsity", {}, "share", value(0), value(at(report, "sparsity", "reached"))),
  ];
}

function time(report: unknown): Measure[] {
  return listAt(report, "measures", "time", "shapes").flatMap((shape) => {
    const of = { rows: numberOf(at(shape, "rows")) ?? 1, tokens: numberOf(at(shape, "tokens")) ?? 0 };
    return [
      ...line("time", of, "milliseconds", value(at(shape, "dense", "p50_ms")), value(at(shape, "sparse", "p50_ms"))),
      ...line("speedup", of, "ratio", null, value(at(shape, "speedup"), at(shape, "interval"))),
    ];
  });
}

function loyalty(report: unknown): Measure[] {
  const found = nodeAt(report, "measures", "loyalty");
  const agreement = value(found.agreement ?? at(report, "agreement"), found.agreement_interval);
  return [
    ...line("agreement", {}, "share", null, agreement),
    ...line("closeness", {}, "share", null, value(found.closeness, found.closeness_interval)),
    ...line("textOverlap", {}, "share", null, value(found.text_overlap, found.text_overlap_interval)),
  ];
}

function robustness(report: unknown): Measure[] {
  const found = nodeAt(report, "measures", "robustness");
  const metric = textOf(found.metric);
  const unit = unitOf(metric);
  return Object.entries(nodeAt(found, "kinds")).flatMap(([kind, both]) =>
    line("robustness", { kind, metric }, unit, value(at(both, "dense", "value")), value(at(both, "sparse", "value"))),
  );
}

function carbon(report: unknown): Measure[] {
  const found = nodeAt(report, "measures", "carbon");
  const kwh = numberOf(found.kwh);
  return [
    ...line("energy", {}, "number", null, value(kwh === null ? null : kwh * 1000)),
    ...line("carbon", {}, "number", null, value(found.grams_co2e)),
  ];
}

export function countsOf(found: unknown): Counts | null {
  const edges = intervalOf(at(found, "edges"));
  const all = numbersOf(at(found, "all"));
  const kept = numbersOf(at(found, "kept"));
  return edges && all && kept && all.length === kept.length && all.length > 0 ? { edges, all, kept } : null;
}

export function distributionsOf(report: unknown): Distribution[] {
  return Object.entries(nodeAt(report, "pictures", "distributions"))
    .map(([group, found]) => ({
      group,
      weight: countsOf(at(found, "weight")),
      score: countsOf(at(found, "score")),
    }))
    .filter(({ weight, score }) => weight || score);
}

function matrixOf(found: unknown): MatrixPicture[] {
  const [rows, columns] = [numbersOf(at(found, "density", "rows")), numbersOf(at(found, "density", "columns"))];
  const [high, wide] = numbersOf(at(found, "shape")) ?? [];
  const kept = numberOf(at(found, "kept"));
  if (!rows || !columns || !high || !wide || kept === null) return [];
  const cells = listAt(found, "density", "cells").map(numbersOf);
  const jaccard = numberOf(at(found, "magnitude_overlap", "jaccard"));
  return [
    {
      name: textOf(at(found, "name")),
      stack: textOf(at(found, "stack")),
      depth: numberOf(at(found, "depth")) ?? 0,
      kind: textOf(at(found, "kind")),
      shape: [high, wide],
      density: kept / (high * wide),
      rows,
      columns,
      cells: cells.length > 0 && cells.every((row) => row !== null) ? (cells as number[][]) : null,
      emptyRows: numberOf(at(found, "empty_rows")) ?? 0,
      emptyColumns: numberOf(at(found, "empty_columns")) ?? 0,
      overlap: jaccard === null ? null : { jaccard, chance: numberOf(at(found, "magnitude_overlap", "chance")) ?? 0 },
      weight: countsOf(at(found, "weight")),
      score: countsOf(at(found, "score")),
    },
  ];
}

export function matricesOf(report: unknown): MatrixPicture[] {
  return listAt(report, "pictures", "matrices").flatMap(matrixOf);
}

/** Depth by kind of matrix, for each stack: the share that stays. */
export interface Grid {
  stack: string;
  kinds: string[];
  depths: number[];
  cells: (MatrixPicture | null)[][];
}

export function gridsOf(matrices: MatrixPicture[]): Grid[] {
  return [...new Set(matrices.map(({ stack }) => stack))].map((stack) => {
    const own = matrices.filter((matrix) => matrix.stack === stack);
    const kinds = [...new Set(own.map(({ kind }) => kind))];
    const depths = [...new Set(own.map(({ depth }) => depth))].sort((a, b) => a - b);
    const cells = depths.map((depth) =>
      kinds.map((kind) => own.find((matrix) => matrix.depth === depth && matrix.kind === kind) ?? null),
    );
    return { stack, kinds, depths, cells };
  });
}

export function confusionOf(report: unknown): Confusion | null {
  const labels = listAt(report, "confusion", "labels").map(String);
  const matrix = listAt(report, "confusion", "matrix").map(numbersOf);
  const whole = matrix.length === labels.length && matrix.every((row) => row?.length === labels.length);
  if (!whole || labels.length === 0) return null;
  return { split: textOf(at(report, "confusion", "split")), labels, matrix: matrix as number[][] };
}

export function wrongRowsOf(report: unknown): WrongRows | null {
  const found = nodeAt(report, "errors");
  const rows = listAt(found, "rows").flatMap((row): WrongRow[] => {
    const number = numberOf(at(row, "row"));
    if (!isNode(row) || number === null) return [];
    return [
      {
        row: number,
        text: textOf(row.text),
        pair: textOf(row.text_pair),
        gold: spelled(row.gold),
        predicted: spelled(row.predicted),
        dense: spelled(row.dense),
        probability: numberOf(row.probability),
      },
    ];
  });
  return rows.length === 0 ? null : { split: textOf(found.split), count: numberOf(found.count) ?? rows.length, rows };
}

export function samplesOf(report: unknown): Sample[] {
  return listAt(report, "samples").flatMap((found): Sample[] => {
    if (!isNode(found) || typeof found.text !== "string") return [];
    return [
      {
        source: textOf(found.source),
        references: listAt(found, "references").map(textOf).filter(Boolean),
        text: found.text,
        dense: textOf(found.dense),
      },
    ];
  });
}

/** A label, several of them, or a number. */
function spelled(answer: unknown): string {
  if (Array.isArray(answer)) return answer.map(spelled).join(", ");
  return typeof answer === "string" || typeof answer === "number" ? String(answer) : "";
}
