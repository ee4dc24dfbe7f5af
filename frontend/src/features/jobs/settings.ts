import schema from "@/api/settings.json";
import type { TrainSettings } from "@/api/types";

/** A training setting as pst.config defines it: settings.json is generated from the API's schema. */
export interface Setting {
  name: keyof TrainSettings;
  type: "choice" | "boolean" | "integer" | "number";
  description: string;
  default: string | number | boolean;
  choices?: string[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

export const SETTINGS = schema as Setting[];

/** Shown at once; the others are one click away. */
export const COMMON: (keyof TrainSettings)[] = ["epochs", "batch_size", "max_length", "learning_rate", "seed"];

/** What differs from the defaults. */
export function changedSettings(values: TrainSettings): [keyof TrainSettings, unknown][] {
  return SETTINGS.filter(({ name, default: standard }) => values[name] !== undefined && values[name] !== standard).map(
    ({ name }) => [name, values[name]],
  );
}

/** "score_learning_rate" -> "Score learning rate" */
export function spoken(name: string): string {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
