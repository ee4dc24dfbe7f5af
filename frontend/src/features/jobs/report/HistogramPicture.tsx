import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import { Picture } from "@/components/Picture";
import { type Colors, drawHistogram } from "@/lib/draw";
import { compact, real } from "@/lib/format";
import type { Counts } from "./read";

/** How many weights (or scores) have which value, and how many of them stay. */
export function HistogramPicture({ title, counts }: { title: string; counts: Counts }) {
  const { t } = useTranslation();
  const draw = useCallback(
    (pen: CanvasRenderingContext2D, width: number, height: number, colors: Colors) =>
      drawHistogram(pen, { x: 0, y: 4, width, height: height - 4 }, counts, colors),
    [counts],
  );
  const point = useCallback(
    (x: number, _: number, width: number) => {
      const bin = Math.floor((x / width) * counts.all.length);
      const step = (counts.edges[1] - counts.edges[0]) / counts.all.length;
      const all = counts.all[bin];
      if (all === undefined) return "";
      const low = counts.edges[0] + bin * step;
      return t("report.bin", {
        low: real(low),
        high: real(low + step),
        all: compact(all),
        kept: compact(counts.kept[bin]),
      });
    },
    [counts, t],
  );
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  return (
    <Picture
      title={title}
      alt={t("report.histogramAlt", {
        all: compact(sum(counts.all)),
        kept: compact(sum(counts.kept)),
        low: real(counts.edges[0]),
        high: real(counts.edges[1]),
      })}
      height={150}
      draw={draw}
      point={point}
    />
  );
}
