import choices from "@/api/choices.json";

/** How a file is to be read; "auto" or empty: the platform finds it. The names are those of the API's form fields. */
export interface Reading {
  task: string;
  format: string;
  encoding: string;
  delimiter: string;
  header: string;
  text_column: string;
  text_pair_column: string;
  label_column: string;
  references_column: string;
  label_separator: string;
}

export const AUTOMATIC: Reading = {
  task: "",
  format: "auto",
  encoding: "auto",
  delimiter: "auto",
  header: "auto",
  text_column: "",
  text_pair_column: "",
  label_column: "",
  references_column: "",
  label_separator: "",
};

/** What rows can teach; the first one where nothing is said. */
export const TASKS = ["classification", "multilabel", "regression", "generation"] as const;
export type Task = (typeof TASKS)[number];

export function taskOf(reading: Reading): Task {
  return TASKS.find((task) => task === reading.task) ?? TASKS[0];
}

export const { format: FORMATS, encoding: ENCODINGS, header: HEADERS } = choices;
export const DELIMITERS = ["auto", ",", ";", "tab", "|"];

/** The fields of a form that say how to read; what is left to the platform is left out. */
export function readingFields(reading: Reading): [string, string][] {
  return Object.entries(reading).filter(([, value]) => value && value !== "auto");
}

const WHOLE = 2 * 1024 * 1024;

/** The file's beginning, enough for a preview: whole lines of the first 2 MiB. JSON can't be cut and goes whole. */
export async function beginning(file: File): Promise<Blob> {
  if (file.size <= WHOLE || file.name.toLowerCase().endsWith(".json")) return file;
  const head = new Uint8Array(await file.slice(0, WHOLE).arrayBuffer());
  const newline = head.lastIndexOf(0x0a);
  if (newline < 0) return file;
  const wide = (head[0] === 0xff && head[1] === 0xfe) || (head[0] === 0xfe && head[1] === 0xff);
  // In UTF-16 a line ends on an even byte: 0a 00 or 00 0a.
  const end = wide ? newline + 1 + ((newline + 1) % 2) : newline + 1;
  return file.slice(0, end);
}

/** "reviews.final.csv" -> "reviews.final" */
export function stem(fileName: string): string {
  return fileName.replace(/\.[A-Za-z0-9]{1,8}$/, "") || fileName;
}
