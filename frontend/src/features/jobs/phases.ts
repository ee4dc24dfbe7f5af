import type { TFunction } from "i18next";
import { phases } from "@/api/choices.json";
import type en from "@/i18n/en.json";

type Phase = keyof (typeof en)["phase"];

/** A phase that this page does not know yet is shown under its own name. */
export function phaseName(t: TFunction, phase: string): string {
  return phases.includes(phase) ? t(`phase.${phase as Phase}`) : phase;
}
