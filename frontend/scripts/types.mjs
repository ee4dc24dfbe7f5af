// Derives everything the frontend knows of the API from the snapshot openapi.yaml, and of reports from their schema:
//   src/api/schema.d.ts    the types of every request and answer
//   src/api/choices.json   values to choose from: how a data set's file may be read; and a job's phases, in order
//   src/api/settings.json  the training settings with description, default and bounds, from which the form is drawn
// With --check it writes nothing and fails where the committed files are not what the snapshot gives.
import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString, COMMENT_HEADER } from "openapi-typescript";
import { parse } from "yaml";

const BOUNDS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
const source = new URL("../openapi.yaml", import.meta.url);
const document = parse(await readFile(source, "utf8"));

// What the platform only keeps and hands on, and the library defines: a job's report.
const report = await readFile(new URL("../../workers/pst/report/schema.json", import.meta.url), "utf8");
document.components.schemas.Report = JSON.parse(report.replaceAll("#/$defs/", "#/components/schemas/Report/$defs/"));
const reference = { $ref: "#/components/schemas/Report" };
document.paths["/api/v1/jobs/{job_id}/report"].get.responses[200].content["application/json"].schema = reference;
document.components.schemas.Version.properties.report = reference;

const settings = document.components?.schemas?.TrainSettings;
if (!settings) throw new Error("openapi.yaml has no schema TrainSettings: regenerate it from the running code.");
const fields = Object.entries(settings.properties).map(([name, field]) => {
  const reference = field.$ref ?? field.allOf?.[0]?.$ref;
  const target = reference ? document.components.schemas[reference.split("/").pop()] : {};
  const { type, description, default: value, enum: choices, ...others } = { ...target, ...field };
  return {
    name,
    type: choices ? "choice" : type,
    description,
    default: value,
    ...(choices ? { choices } : {}),
    ...Object.fromEntries(BOUNDS.filter((bound) => bound in others).map((bound) => [bound, others[bound]])),
  };
});

const reading = document.components.schemas.DatasetUploadRequest?.properties ?? {};
const choices = Object.fromEntries(
  ["format", "encoding", "header"].map((name) => {
    const reference = reading[name]?.$ref ?? reading[name]?.allOf?.[0]?.$ref;
    const found = reference && document.components.schemas[reference.split("/").pop()].enum;
    if (!found) throw new Error(`openapi.yaml has no choices of ${name}: regenerate it from the running code.`);
    return [name, found];
  }),
);

choices.phases = document.components.schemas.Phase.enum;

const files = {
  "choices.json": `${JSON.stringify(choices, null, 2)}\n`,
  "schema.d.ts": COMMENT_HEADER + astToString(await openapiTS(document, { defaultNonNullable: false })),
  "settings.json": `${JSON.stringify(fields, null, 2)}\n`,
};
for (const [name, content] of Object.entries(files)) {
  const path = new URL(`../src/api/${name}`, import.meta.url);
  if (!process.argv.includes("--check")) {
    await writeFile(path, content);
  } else if ((await readFile(path, "utf8").catch(() => "")) !== content) {
    throw new Error(`src/api/${name} is not what openapi.yaml gives: run npm run types.`);
  }
}
