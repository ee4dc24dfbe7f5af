import { Group, Select, SimpleGrid, Stack, Text } from "@mantine/core";
import { useCallback, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { Picture } from "@/components/Picture";
import { Section } from "@/components/Section";
import { Stats } from "@/components/Stat";
import { type Colors, drawCells, fitted, write } from "@/lib/draw";
import { count, percent } from "@/lib/format";
import { HistogramPicture } from "./HistogramPicture";
import { type Grid, gridsOf, type MatrixPicture } from "./read";

/** Where weights stay: by depth and kind of matrix, and inside the one that is picked. */
export function LayersSection({ matrices }: { matrices: MatrixPicture[] }) {
  const { t } = useTranslation();
  const [picked, setPicked] = useState(matrices[0]?.name ?? "");
  const grids = useMemo(() => gridsOf(matrices), [matrices]);
  const matrix = matrices.find(({ name }) => name === picked);
  return (
    <Section title={t("report.layers")} note={t("report.layersNote")}>
      <SimpleGrid cols={{ base: 1, md: grids.length > 1 ? 2 : 1 }}>
        {grids.map((grid) => (
          <GridPicture key={grid.stack} grid={grid} />
        ))}
      </SimpleGrid>
      <Select
        label={t("report.matrix")}
        data={matrices.map(({ name }) => name)}
        value={picked}
        onChange={(name) => name && setPicked(name)}
        allowDeselect={false}
        searchable
        maw={520}
      />
      {matrix && <MatrixView matrix={matrix} />}
    </Section>
  );
}

const CELL = 24;
const MARGIN = 34;

function GridPicture({ grid }: { grid: Grid }) {
  const { t } = useTranslation();
  const densities = useMemo(() => grid.cells.map((row) => row.map((cell) => cell?.density ?? null)), [grid]);
  const known = densities.flat().filter((value) => value !== null);
  const high = Math.max(...known);
  const scaled = useMemo(
    () => densities.map((row) => row.map((value) => (value === null ? null : value / (high || 1)))),
    [densities, high],
  );
  const height = CELL * grid.depths.length + 26;
  const draw = useCallback(
    (pen: CanvasRenderingContext2D, width: number, _: number, colors: Colors) => {
      const box = { x: MARGIN, y: 2, width: width - MARGIN - 2, height: CELL * grid.depths.length };
      drawCells(pen, box, scaled, colors, 1);
      grid.depths.forEach((depth, at) => {
        write(pen, String(depth), MARGIN - 8, box.y + (at + 0.5) * CELL, colors.text, "right");
      });
      const each = box.width / grid.kinds.length;
      grid.kinds.forEach((kind, at) => {
        write(
          pen,
          fitted(pen, kind, each - 4),
          box.x + (at + 0.5) * each,
          box.y + box.height + 13,
          colors.text,
          "center",
        );
      });
    },
    [grid, scaled],
  );
  const point = useCallback(
    (x: number, y: number, width: number) => {
      const cell =
        grid.cells[Math.floor((y - 2) / CELL)]?.[Math.floor(((x - MARGIN) / (width - MARGIN - 2)) * grid.kinds.length)];
      return cell ? t("report.densityOf", { name: cell.name, share: percent(cell.density, 2) }) : "";
    },
    [grid, t],
  );
  return (
    <Picture
      title={grid.stack ? t("report.densityIn", { stack: grid.stack }) : t("report.density")}
      alt={t("report.densityAlt", { low: percent(Math.min(...known), 2), high: percent(high, 2), count: known.length })}
      height={height}
      draw={draw}
      point={point}
    />
  );
}

const STRIP = 22;
const MAP = 300;

function MatrixView({ matrix }: { matrix: MatrixPicture }) {
  const { t } = useTranslation();
  return (
    <Stack gap="md">
      <Stats
        cols={4}
        figures={[
          { label: t("report.shape"), value: `${count(matrix.shape[0])} × ${count(matrix.shape[1])}` },
          { label: t("report.staying"), value: percent(matrix.density, 2) },
          {
            label: t("report.emptyRows"),
            value: count(matrix.emptyRows),
            note: t("report.emptyColumns", { columns: count(matrix.emptyColumns) }),
          },
          {
            label: t("report.overlap"),
            value: matrix.overlap ? percent(matrix.overlap.jaccard) : "–",
            note: matrix.overlap && t("report.byChance", { share: percent(matrix.overlap.chance) }),
          },
        ]}
      />
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <DensityPicture matrix={matrix} />
        <Stack gap="sm">
          {matrix.weight && <HistogramPicture title={t("report.weights")} counts={matrix.weight} />}
          {matrix.score && <HistogramPicture title={t("report.scores")} counts={matrix.score} />}
        </Stack>
      </SimpleGrid>
    </Stack>
  );
}

/** The mask's density: by stretches of columns above, of rows at the left, and of both where the report has that. */
function DensityPicture({ matrix }: { matrix: MatrixPicture }) {
  const { t } = useTranslation();
  const { rows, columns, cells } = matrix;
  const high = Math.max(...rows, ...columns, ...(cells?.flat() ?? []), 1e-9);
  const height = STRIP + 6 + MAP;
  const draw = useCallback(
    (pen: CanvasRenderingContext2D, width: number, _: number, colors: Colors) => {
      const scale = (values: number[]) => values.map((value) => value / high);
      const x = STRIP + 6;
      drawCells(pen, { x, y: 0, width: width - x, height: STRIP }, [scale(columns)], colors);
      drawCells(
        pen,
        { x: 0, y: x, width: STRIP, height: MAP },
        scale(rows).map((value) => [value]),
        colors,
      );
      if (cells) drawCells(pen, { x, y: x, width: width - x, height: MAP }, cells.map(scale), colors);
      else {
        profile(pen, rows, high, { x: x + 6, y: x, width: (width - x) / 2 - 12, height: MAP }, true, colors);
        profile(
          pen,
          columns,
          high,
          { x: x + (width - x) / 2, y: x, width: (width - x) / 2, height: MAP / 2 },
          false,
          colors,
        );
        write(pen, `← ${t("report.byRow")}`, x + (width - x) / 2, x + MAP / 2 + 28, colors.text);
        write(pen, `↑ ${t("report.byColumn")}`, x + (width - x) / 2, x + MAP / 2 + 10, colors.text);
      }
    },
    [rows, columns, cells, high, t],
  );
  const point = useCallback(
    (x: number, y: number, width: number) => {
      const edge = STRIP + 6;
      const stretch = (at: number, size: number, parts: number[]) => Math.floor((at / size) * parts.length);
      if (y < STRIP && x >= edge) {
        const column = columns[stretch(x - edge, width - edge, columns)];
        return column === undefined ? "" : t("report.columnsHere", { share: percent(column, 2) });
      }
      if (x < STRIP && y >= edge) {
        const row = rows[stretch(y - edge, MAP, rows)];
        return row === undefined ? "" : t("report.rowsHere", { share: percent(row, 2) });
      }
      const line = cells?.[stretch(y - edge, MAP, rows.slice(0, cells.length))];
      const cell = line?.[Math.floor(((x - edge) / (width - edge)) * line.length)];
      return cell === undefined ? "" : t("report.cellHere", { share: percent(cell, 2) });
    },
    [rows, columns, cells, t],
  );
  return (
    <Stack gap={4}>
      <Picture
        title={t("report.map")}
        alt={t("report.mapAlt", {
          rowLow: percent(Math.min(...rows), 2),
          rowHigh: percent(Math.max(...rows), 2),
          columnLow: percent(Math.min(...columns), 2),
          columnHigh: percent(Math.max(...columns), 2),
        })}
        height={height}
        draw={draw}
        point={point}
      />
      <Group justify="space-between">
        <Text size="xs" c="dimmed" className="figure">
          {t("report.scale", { high: percent(high, 2) })}
        </Text>
      </Group>
    </Stack>
  );
}

/** A marginal as bars: rows to the right, columns upwards. */
function profile(
  pen: CanvasRenderingContext2D,
  values: number[],
  high: number,
  box: { x: number; y: number; width: number; height: number },
  across: boolean,
  colors: Colors,
): void {
  pen.fillStyle = colors.accent;
  values.forEach((value, at) => {
    const share = value / high;
    if (across) {
      const tall = box.height / values.length;
      pen.fillRect(box.x, box.y + at * tall, Math.max(0.5, share * box.width), Math.max(0.5, tall - 0.5));
    } else {
      const wide = box.width / values.length;
      pen.fillRect(box.x + at * wide, box.y + (1 - share) * box.height, Math.max(0.5, wide - 0.5), share * box.height);
    }
  });
}
