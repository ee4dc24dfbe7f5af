import { SimpleGrid } from "@mantine/core";
import { useCallback, useMemo } from "react";
import { useTranslation } from "react-i18next";
import { DataTable } from "@/components/DataTable";
import { Picture } from "@/components/Picture";
import { Section } from "@/components/Section";
import { type Colors, drawCells, fitted, write } from "@/lib/draw";
import { count, percent } from "@/lib/format";
import type { Confusion } from "./read";

const MOST_NAMES = 40;
const MOST_PAIRS = 10;

/** What is taken for what: true labels downwards, answers across, each row's share as colour. */
export function ConfusionSection({ confusion }: { confusion: Confusion }) {
  const { t } = useTranslation();
  const { labels, matrix } = confusion;
  const totals = useMemo(() => matrix.map((row) => row.reduce((sum, n) => sum + n, 0)), [matrix]);
  const shares = useMemo(
    () => matrix.map((row, at) => row.map((n) => (n === 0 ? null : n / Math.max(1, totals[at] ?? 1)))),
    [matrix, totals],
  );
  const pairs = useMemo(
    () =>
      matrix
        .flatMap((row, gold) => row.map((n, said) => ({ gold, said, n })))
        .filter(({ gold, said, n }) => gold !== said && n > 0)
        .sort((a, b) => b.n - a.n)
        .slice(0, MOST_PAIRS),
    [matrix],
  );
  const named = labels.length <= MOST_NAMES;
  const side = named ? Math.max(16, Math.min(34, 420 / labels.length)) : 420 / labels.length;
  const left = named ? 110 : 4;
  const height = Math.round(side * labels.length) + 4;

  const draw = useCallback(
    (pen: CanvasRenderingContext2D, width: number, _: number, colors: Colors) => {
      const box = { x: left, y: 2, width: width - left - 2, height: side * labels.length };
      drawCells(pen, box, shares, colors, 1);
      if (!named) return;
      labels.forEach((label, at) => {
        write(pen, fitted(pen, label, left - 8), left - 6, box.y + (at + 0.5) * side, colors.text, "right");
      });
    },
    [labels, shares, named, side, left],
  );
  const point = useCallback(
    (x: number, y: number, width: number) => {
      const gold = Math.floor((y - 2) / side);
      const said = Math.floor(((x - left) / (width - left - 2)) * labels.length);
      const n = matrix[gold]?.[said];
      return n === undefined
        ? ""
        : t("report.confused", {
            gold: labels[gold],
            said: labels[said],
            n: count(n),
            share: percent(n / Math.max(1, totals[gold] ?? 1)),
          });
    },
    [labels, matrix, totals, side, left, t],
  );
  const right = matrix.reduce((sum, row, at) => sum + (row[at] ?? 0), 0);
  const all = totals.reduce((sum, n) => sum + n, 0);
  return (
    <Section title={t("report.confusion")} note={t("report.confusionNote")}>
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <Picture
          title={t("report.confusionOf", { split: t(`split.${confusion.split}` as "split.test") })}
          alt={t("report.confusionAlt", { right: count(right), all: count(all) })}
          height={height}
          draw={draw}
          point={point}
        />
        {pairs.length > 0 && (
          <DataTable
            label={t("report.mostConfused")}
            rows={pairs}
            columns={[
              { name: t("report.gold"), className: "breakable", cell: ({ gold }) => labels[gold] },
              { name: t("report.predicted"), className: "breakable", cell: ({ said }) => labels[said] },
              { name: t("report.rows"), className: "number", cell: ({ n }) => count(n) },
            ]}
            keyOf={({ gold, said }) => `${gold} ${said}`}
            minWidth={280}
          />
        )}
      </SimpleGrid>
    </Section>
  );
}
