/** Numbers, sizes and times as people read them. Every function takes null and undefined and shows a dash. */

const DASH = "–";
type Maybe = number | null | undefined;

function known(value: Maybe): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** 22713216 -> "22,713,216" */
export function count(value: Maybe): string {
  return known(value) ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : DASH;
}

/** 22713216 -> "22.7 M" */
export function compact(value: Maybe): string {
  if (!known(value)) return DASH;
  for (const [size, unit] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (Math.abs(value) >= size) return `${significant(value / size)} ${unit}`;
  }
  return count(value);
}

/** 90861234 -> "90.9 MB": decimal units, as disks and networks count. */
export function bytes(value: Maybe): string {
  if (!known(value)) return DASH;
  for (const [size, unit] of [
    [1e12, "TB"],
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
  ] as const) {
    if (Math.abs(value) >= size) return `${significant(value / size)} ${unit}`;
  }
  return `${count(value)} B`;
}

/** 0.8972 -> "89.7 %" */
export function percent(share: Maybe, digits = 1): string {
  return known(share) ? `${(share * 100).toFixed(digits)} %` : DASH;
}

const SHARES = ["accuracy", "macro_f1", "micro_f1", "f1", "subset_accuracy"];

/** Whether people read a metric in percent. */
export function isShare(metric: string): boolean {
  return SHARES.includes(metric);
}

/** 3725 -> "1 h 2 min" */
export function duration(seconds: Maybe): string {
  if (!known(seconds)) return DASH;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.round((minutes % 1440) / 60)} h`;
}

/** Four digits that matter, or so many: losses and rates. 0.00098 -> "0.00098", 1.23456 -> "1.235" */
export function real(value: Maybe, digits = 4): string {
  return known(value) ? String(Number(value.toPrecision(digits))) : DASH;
}

/** The page's language, as the browser's owner writes dates in it. */
export function locale(): string {
  const page = document.documentElement.lang;
  return navigator.languages.find((known) => known.slice(0, 2) === page.slice(0, 2)) ?? page;
}

export function dateTime(iso: string | null | undefined): string {
  return iso ? new Date(iso).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" }) : DASH;
}

export function clockTime(iso: string): string {
  return new Date(iso).toLocaleTimeString(locale(), { hour12: false });
}

function significant(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(1);
}
