// @vitest-environment happy-dom
import { screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it } from "vitest";
import type { JobEvent, Version } from "@/api/types";
import * as answers from "@/testing/answers";
import { begin, open } from "@/testing/page";
import { asked, refuse, serve } from "@/testing/server";

const { dataset, deployment, job, listOf, me, model, node, report, token, version } = answers;

beforeEach(begin);

/** The cells of a table's rows, as they are read. */
function cells(table: HTMLElement): (string | null)[][] {
  return within(table)
    .getAllByRole("row")
    .slice(1)
    .map((row) => [...row.querySelectorAll("th, td")].map((cell) => cell.textContent));
}

describe("the pages", () => {
  it("let nobody in without a name and a password, and say what is wrong", async () => {
    refuse("get", "/api/v1/me", 401, "not_authenticated");
    serve("get", "/api/v1/setup", { needed: false, enabled: true });
    refuse("post", "/api/v1/session", 400, "invalid", [{ field: "username", message: "No such user." }]);
    const page = await open("/");
    await userEvent.type(page.getByLabelText(/User name/), "olga");
    await userEvent.type(page.getByLabelText(/^Password/), "secret words");
    await userEvent.click(page.getByRole("button", { name: "Sign in" }));
    expect(await page.findByRole("alert")).toHaveProperty("textContent", expect.stringContaining("It says invalid."));
    expect(asked.at(-1)?.body).toEqual({ username: "olga", password: "secret words" });
    expect(page.getByLabelText(/User name/).getAttribute("aria-invalid")).toBe("true");

    serve("post", "/api/v1/session", me);
    serve("get", "/api/v1/jobs", listOf());
    await userEvent.click(page.getByRole("button", { name: "Sign in" }));
    expect(await screen.findByRole("heading", { level: 1, name: "Jobs" })).toBeTruthy();
  });

  it("show jobs with their place in words, and ask the server for what the address says", async () => {
    serve("get", "/api/v1/jobs", {
      ...listOf(job, { ...job, id: "j2", name: "next", state: "queued", queue_position: 3, progress: {} }),
      count: 60,
    });
    const page = await open("/w/acme/jobs?state=running&ordering=name&page=2&search=try&unknown=1");
    const table = await page.findByRole("table");
    expect(cells(table).map(([name, state, where, sparsity]) => [name, state, where, sparsity])).toEqual([
      ["first trysupport desk · base/minilm", "running", "Sparse training 25 %", "90.0 %"],
      ["nextsupport desk · base/minilm", "queued", expect.stringContaining("3"), "90.0 %"],
    ]);
    const query = { workspace: "acme", state: "running", ordering: "name", search: "try", page: "2", page_size: "25" };
    expect(asked.find(({ path }) => path === "/api/v1/jobs")?.query).toEqual(query);
    await userEvent.click(page.getByRole("button", { name: "3" }));
    await expect.poll(() => asked.at(-1)?.query.page).toBe("3");
  });

  it("say of an empty list what it is for, and of a filtered one that nothing matches", async () => {
    serve("get", "/api/v1/datasets", listOf());
    const page = await open("/w/acme/datasets");
    expect(await page.findByText("No data sets yet")).toBeTruthy();
    await userEvent.type(page.getByRole("textbox", { name: "Search by name" }), "desk");
    expect(await page.findByText("Nothing matches")).toBeTruthy();
    expect(asked.at(-1)?.query).toMatchObject({ search: "desk", workspace: "acme" });
  });

  it("show data sets with the rows of all splits", async () => {
    serve("get", "/api/v1/datasets", listOf(dataset));
    const page = await open("/w/acme/datasets");
    expect(cells(await page.findByRole("table"))[0]?.slice(0, 4)).toEqual(["support desk", "ready", "900", "2"]);
  });

  it("name the place of what is wrong with a data set", async () => {
    const errors = [{ file: "train.csv", line: 7, column: "label", message: "The label is empty." }];
    serve("get", "/api/v1/datasets/{dataset_id}", { ...dataset, state: "invalid", splits: [], report: {}, errors });
    const page = await open("/w/acme/datasets/d1");
    expect(cells(await page.findByTestId("errors"))).toEqual([["train.csv:7:label", "The label is empty."]]);
  });

  it("show a job's phases, of newer workers too, its plan and its log", async () => {
    const event = (id: number, type: string, data: object) =>
      ({ id, seq: id, attempt: 1, at: `2026-03-04T05:06:0${id}Z`, type, data }) as unknown as JobEvent;
    serve("get", "/api/v1/jobs/{job_id}", job);
    serve("get", "/api/v1/jobs/{job_id}/events", {
      events: [
        event(1, "phase", { phase: "prepare", index: 0, of: 3 }),
        event(2, "phase", { phase: "distillation", index: 1, of: 3 }),
        event(3, "phase", { phase: "train", index: 2, of: 3 }),
      ],
      last: 3,
    });
    const page = await open("/w/acme/jobs/j1");
    expect((await page.findAllByRole("listitem")).map((item: HTMLElement) => item.textContent)).toEqual([
      "Prepare 1.0 s",
      "distillation 1.0 s",
      "Sparse training",
    ]);
    expect(cells(page.getByRole("table", { name: "Plan per group of matrices" }))).toEqual([
      ["attention", "24", "90.0 %", "353 k", "900 kB"],
      ["not pruned: embeddings, head, norms", "", "–", "12.0 M", "48.1 MB"],
      ["the whole file", "", "", "12.4 M", "49.0 MB"],
    ]);
  });

  it("show an older report as far as it goes", async () => {
    serve("get", "/api/v1/jobs", listOf(job));
    serve("get", "/api/v1/jobs/{job_id}", { ...job, state: "succeeded", report_available: true });
    serve("get", "/api/v1/jobs/{job_id}/report", report as never);
    const page = await open("/w/acme/jobs/j1/report");
    const measures = cells(await page.findByTestId("report"));
    expect(measures[0]).toEqual(["Accuracy (test)", "93.1 %", "91.2 %", expect.stringContaining("−1.9")]);
    expect(measures.map(([name]) => name)).not.toContain("Time");
    expect(cells(page.getByRole("table", { name: "What is confused most often" }))[0]).toEqual([
      "billing",
      "delivery",
      "10",
    ]);
    expect(page.getByText("where is my invoice for the parcel")).toBeTruthy();
  });

  it("show models with the quality of the latest version beside the dense one's", async () => {
    serve("get", "/api/v1/models", listOf(model));
    const page = await open("/w/acme/models");
    expect(cells(await page.findByRole("table"))[0]?.slice(0, 7)).toEqual([
      "acme/support-desk",
      "v2",
      "91.2 %Accuracy · dense 93.1 %",
      "90.0 %",
      "49.0 MB",
      "90.9 MB",
      "production → v2",
    ]);
  });

  it("show a model's versions, files and card", async () => {
    const whole = { ...version, report } as unknown as Version;
    serve("get", "/api/v1/models/{namespace}/{name}", { ...model, latest: whole });
    serve("get", "/api/v1/models/{namespace}/{name}/versions", listOf(version));
    serve("get", "/api/v1/models/{namespace}/{name}/versions/{number}", whole);
    serve("get", "/api/v1/deployments", listOf(deployment));
    const page = await open("/w/acme/models/acme/support-desk");
    expect(cells(await page.findByRole("table", { name: "Versions" }))[0]?.slice(0, 6)).toEqual([
      "v2",
      "0123456789ab",
      "production",
      "49.0 MB",
      "90.9 MB",
      "Job",
    ]);
    expect(cells(await page.findByRole("table", { name: /^Files/ }))[0]?.[0]).toBe("model.safetensors");
    expect(await page.findByText("Tells what a message is about.")).toBeTruthy();
  });

  it("show where deployments stand, and forget a node that is gone", async () => {
    serve("get", "/api/v1/deployments", listOf(deployment));
    serve("get", "/api/v1/nodes", listOf(node));
    const page = await open("/w/acme/serving?nodes-state=offline");
    expect(cells(await page.findByRole("table", { name: /acme\/desk/ }))[0]?.slice(0, 4)).toEqual([
      "serve-1",
      "loadinghalf of it is there",
      "v2",
      "http://serve-1",
    ]);
    expect(asked.find(({ path }) => path === "/api/v1/nodes")?.query).toMatchObject({ online: "false" });
    await userEvent.click(await page.findByRole("button", { name: "Forget" }));
    expect(await screen.findByRole("dialog")).toHaveProperty("textContent", expect.stringContaining("serve-1"));
  });

  it("make a token and show its secret once", async () => {
    serve("get", "/api/v1/tokens", listOf(token));
    serve("post", "/api/v1/tokens", { ...token, id: "t2", name: "build", token: "sw_secret" } as never);
    const page = await open("/w/acme/settings");
    expect(cells(await page.findByRole("table"))[0]?.slice(0, 5)).toEqual([
      "laptop",
      "me",
      "sw_ab…",
      "an editor",
      "never",
    ]);
    await userEvent.type(page.getByRole("textbox", { name: /Name/ }), "build");
    await userEvent.click(page.getByRole("button", { name: "Make a token" }));
    expect(await page.findByText("sw_secret")).toBeTruthy();
    expect(asked.find(({ method }) => method === "post")?.body).toEqual({
      name: "build",
      kind: "user",
      role: "viewer",
      workspace: "acme",
    });
  });

  it("let owners alone change who may do what", async () => {
    const member = { username: "ivan", email: "", role: "viewer" as const, created_at: token.created_at };
    serve("get", "/api/v1/workspaces/{slug}/members", listOf(member));
    serve("get", "/api/v1/me", { ...me, workspaces: [{ slug: "acme", name: "Acme", role: "viewer" }] });
    const page = await open("/w/acme/settings?tab=members");
    expect(cells(await page.findByRole("table"))[0]?.slice(0, 2)).toEqual(["ivan", "viewer"]);
    expect(page.queryAllByRole("button", { name: /Remove|Add/ })).toEqual([]);
  });

  it("let an owner take a member out", async () => {
    const member = { username: "ivan", email: "", role: "viewer" as const, created_at: token.created_at };
    serve("get", "/api/v1/workspaces/{slug}/members", listOf(member));
    refuse("delete", "/api/v1/workspaces/{slug}/members/{username}", 409, "last_owner");
    const page = await open("/w/acme/settings?tab=members");
    await userEvent.click(await page.findByRole("button", { name: "Remove" }));
    const dialog = await screen.findByRole("dialog");
    await userEvent.click(within(dialog).getByRole("button", { name: "Remove" }));
    expect(await within(dialog).findByText("It says last_owner.")).toBeTruthy();
    expect(asked.at(-1)).toMatchObject({ method: "delete", path: "/api/v1/workspaces/acme/members/ivan" });
  });
});
