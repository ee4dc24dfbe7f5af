// Derives everything the frontend knows of the API from the snapshot openapi.yaml:
//   src/api/schema.d.ts    the types of every request and answer
//   src/api/settings.json  the training settings with description, default and bounds, from which the form is drawn
import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString, COMMENT_HEADER } from "openapi-typescript";
import { parse } from "yaml";

const source = new URL("../openapi.yaml", import.meta.url);
const document = parse(await readFile(source, "utf8"));

await writeFile(
  new URL("../src/api/schema.d.ts", import.meta.url),
  COMMENT_HEADER + astToString(await openapiTS(source, { defaultNonNullable: false })),
);

const settings = document.components?.schemas?.TrainSettings;
if (!settings) throw new Error("openapi.yaml has no schema TrainSettings: regenerate it from the running code.");
const fields = Object.entries(settings.properties).map(([name, field]) => {
  const reference = field.$ref ?? field.allOf?.[0]?.$ref;
  const target = reference ? document.components.schemas[reference.split("/").pop()] : {};
  const { type, description, default: value, enum: choices, ...bounds } = { ...target, ...field };
  return {
    name,
    type: choices ? "choice" : type,
    description,
    default: value,
    ...(choices ? { choices } : {}),
    ...Object.fromEntries(
      ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
        .filter((key) => key in bounds)
        .map((key) => [key, bounds[key]]),
    ),
  };
});
await writeFile(new URL("../src/api/settings.json", import.meta.url), `${JSON.stringify(fields, null, 2)}\n`);
