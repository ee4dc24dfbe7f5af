import { useCallback, useMemo } from "react";
import { useTranslation } from "react-i18next";
import { Picture } from "@/components/Picture";
import { type Colors, fitted, front, ticks, write } from "@/lib/draw";
import { metricName, shown } from "./MeasuresTable";
import type { Unit } from "./measures";
import { beaten, type Point } from "./points";

const HEIGHT = 280;
const LEFT = 62;
const FOOT = 26;

interface Props {
  points: Point[];
  /** What quality is drawn against, in words. */
  against: string;
  /** Unit of the cost. */
  price: Unit;
  /** Which costs are wished for; null: neither, as with a setting. */
  wish: "less" | "more" | null;
}

/** Quality against what it costs; a line joins the jobs that no other beats in both. */
export function QualityPicture({ points, against, price, wish }: Props) {
  const { t } = useTranslation();
  const best = useMemo(() => frontOf(points, wish), [points, wish]);
  const unit = points[0]?.measure.unit ?? "number";
  const place = useMemo(() => {
    const costs = points.map(({ cost }) => cost);
    const values = points.map(({ value }) => value);
    const pad = (low: number, high: number): [number, number] => {
      const room = (high - low || Math.abs(high) * 0.1 || 1) * 0.12;
      return [low - room, high + room];
    };
    return { x: pad(Math.min(...costs), Math.max(...costs)), y: pad(Math.min(...values), Math.max(...values)) };
  }, [points]);

  const draw = useCallback(
    (pen: CanvasRenderingContext2D, width: number, height: number, colors: Colors) => {
      const [x0, x1] = place.x;
      const [y0, y1] = place.y;
      const across = (cost: number) => LEFT + ((cost - x0) / (x1 - x0)) * (width - LEFT - 8);
      const up = (value: number) => height - FOOT - ((value - y0) / (y1 - y0)) * (height - FOOT - 8);
      pen.lineWidth = 1;
      for (const tick of ticks(y0, y1, 5)) {
        pen.strokeStyle = colors.line;
        pen.beginPath();
        pen.moveTo(LEFT, Math.round(up(tick)) + 0.5);
        pen.lineTo(width, Math.round(up(tick)) + 0.5);
        pen.stroke();
        write(pen, shown(unit, tick), LEFT - 6, up(tick), colors.text, "right");
      }
      for (const tick of ticks(x0, x1, Math.max(3, Math.floor(width / 120)))) {
        const align = across(tick) > width - 24 ? "right" : "center";
        write(pen, shown(price, tick), Math.min(across(tick), width), height - FOOT / 2, colors.text, align);
      }
      pen.strokeStyle = colors.accent;
      pen.lineWidth = 1.5;
      pen.beginPath();
      best.forEach(({ cost, value }, at) => {
        // A step: up to the next cost, nothing better than this is to be had.
        if (at > 0) pen.lineTo(across(cost), up(best[at - 1]?.value ?? value));
        pen.lineTo(across(cost), up(value));
      });
      if (wish) pen.stroke();
      for (const point of points) {
        pen.fillStyle = wish === null || !beaten(point, points, wish) ? colors.accent : colors.second;
        pen.beginPath();
        pen.arc(across(point.cost), up(point.value), 5, 0, 2 * Math.PI);
        pen.fill();
        const right = across(point.cost) > width - 120;
        write(
          pen,
          fitted(pen, point.label, 110),
          across(point.cost) + (right ? -9 : 9),
          up(point.value) - 9,
          colors.text,
          right ? "right" : "left",
        );
      }
    },
    [best, place, points, price, unit, wish],
  );
  return (
    <Picture
      title={t("compare.against", { metric: metricName(t, String(points[0]?.measure.of.metric ?? "")), against })}
      alt={points
        .map(({ label, cost, value }) =>
          t("compare.paretoPoint", { name: label, value: shown(unit, value), size: shown(price, cost) }),
        )
        .join("; ")}
      height={HEIGHT}
      draw={draw}
    />
  );
}

function frontOf(points: Point[], wish: Props["wish"]): Point[] {
  if (wish !== "more") return front(points);
  const turned = new Map(points.map((point) => [{ cost: -point.cost, value: point.value }, point]));
  return front([...turned.keys()]).flatMap((key) => turned.get(key) ?? []);
}
