/** What a job's report shows beside its measures, made ready to be drawn. */
import type { Report } from "@/api/types";
import { intervalOf, listOf, numberOf, numbersOf } from "@/lib/tree";

type Pictures = NonNullable<Report["pictures"]>;
export type Confusion = {
  [Name in "labels" | "matrix" | "split"]: NonNullable<NonNullable<Report["confusion"]>[Name]>;
};
export type WrongRows = NonNullable<Report["errors"]>;
/** A text that was generated, beside what was wanted and what the dense model wrote. */
export type Sample = NonNullable<Report["samples"]>[number];

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

export interface MatrixPicture extends Pick<Distribution, "weight" | "score"> {
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
}

function countsOf(found: { edges?: unknown; all?: unknown; kept?: unknown } | null | undefined): Counts | null {
  const edges = intervalOf(found?.edges);
  const [all, kept] = [numbersOf(found?.all), numbersOf(found?.kept)];
  return edges && all && kept && all.length === kept.length && all.length > 0 ? { edges, all, kept } : null;
}

export function distributionsOf({ pictures }: Report): Distribution[] {
  return Object.entries(pictures?.distributions ?? {})
    .map(([group, found]) => ({ group, weight: countsOf(found?.weight), score: countsOf(found?.score) }))
    .filter(({ weight, score }) => weight || score);
}

function matrixOf(found: NonNullable<Pictures["matrices"]>[number]): MatrixPicture[] {
  const { density, magnitude_overlap: overlap } = found;
  const [rows, columns] = [numbersOf(density?.rows), numbersOf(density?.columns)];
  const [high, wide] = numbersOf(found.shape) ?? [];
  const kept = numberOf(found.kept);
  if (!rows || !columns || !high || !wide || kept === null) return [];
  const cells = listOf(density?.cells as number[][] | undefined);
  return [
    {
      name: found.name ?? "",
      stack: found.stack ?? "",
      depth: found.depth ?? 0,
      kind: found.kind ?? "",
      shape: [high, wide],
      density: kept / (high * wide),
      rows,
      columns,
      cells: cells.length > 0 ? [...cells] : null,
      emptyRows: found.empty_rows ?? 0,
      emptyColumns: found.empty_columns ?? 0,
      overlap: overlap?.jaccard == null ? null : { jaccard: overlap.jaccard, chance: overlap.chance ?? 0 },
      weight: countsOf(found.weight),
      score: countsOf(found.score),
    },
  ];
}

export function matricesOf({ pictures }: Report): MatrixPicture[] {
  return listOf(pictures?.matrices).flatMap(matrixOf);
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

/** Null where there is none, or it does not fit its labels. */
export function confusionOf({ confusion }: Report): Confusion | null {
  const { split = "validation", labels, matrix } = confusion ?? {};
  const whole = matrix?.length === labels?.length && matrix?.every((row) => row.length === labels?.length);
  return whole && labels?.length && matrix && split ? { split, labels, matrix } : null;
}
