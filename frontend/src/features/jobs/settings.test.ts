import { describe, expect, it } from "vitest";
import { COMMON, changedSettings, SETTINGS, spoken } from "./settings";

describe("settings from the schema", () => {
  it("describes every setting and gives it a default", () => {
    expect(SETTINGS.length).toBeGreaterThan(10);
    for (const setting of SETTINGS) {
      expect(setting.description, setting.name).not.toBe("");
      expect(setting.default, setting.name).not.toBeUndefined();
      expect(["choice", "boolean", "integer", "number"], setting.name).toContain(setting.type);
    }
  });

  it("knows the settings that the form shows first", () => {
    const names = SETTINGS.map(({ name }) => name);
    expect(names).toContain("method");
    for (const name of COMMON) expect(names).toContain(name);
  });

  it("tells what was changed", () => {
    const defaults = Object.fromEntries(SETTINGS.map(({ name, default: value }) => [name, value]));
    expect(changedSettings(defaults)).toEqual([]);
    expect(changedSettings({ ...defaults, epochs: 3 })).toEqual([["epochs", 3]]);
    expect(changedSettings({})).toEqual([]);
    expect(spoken("score_learning_rate")).toBe("Score learning rate");
  });
});
