/** Short names for the generated types. Nothing is written by hand here: see `npm run types`. */
import type { Readable } from "openapi-typescript-helpers";
import type { components } from "./schema";

type Schemas = components["schemas"];
/** As the typed client answers it. */
type Answer<Name extends keyof Schemas> = Readable<Schemas[Name]>;

export type Dataset = Answer<"Dataset">;
export type DatasetListed = Answer<"DatasetListed">;
export type DatasetFromUploads = Schemas["DatasetFromUploadsRequest"];
export type DatasetReport = Dataset["report"];
export type Deployment = Answer<"Deployment">;
export type EstimateRequest = Schemas["EstimateQueryRequest"];
export type IssuedToken = Answer<"IssuedToken">;
export type Job = Answer<"Job">;
export type JobEvent = Answer<"JobEvent">;
export type JobPlan = Answer<"JobPlan">;
export type JobSubmission = Schemas["JobSubmissionRequest"];
export type MachineResources = Schemas["Resources"];
export type Me = Answer<"Me">;
export type Member = Answer<"Member">;
export type Model = Answer<"Model">;
export type ModelRow = Answer<"ModelRow">;
export type Node = Answer<"Node">;
export type PlaygroundAnswer = Answer<"Answer">;
/** A job's report; of an older one, anything may be missing. */
export type Report = Known<Schemas["Report"]>;
export type Target = Schemas["Target"];
export type Token = Answer<"Token">;
export type TrainSettings = Schemas["TrainSettings"];
export type Version = Answer<"Version">;
export type VersionRow = Answer<"VersionRow">;

type Known<T> = T extends readonly (infer Item)[]
  ? Known<Item>[]
  : T extends object
    ? { [Name in keyof T]?: Known<T[Name]> | null }
    : T;
