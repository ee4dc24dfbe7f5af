import i18next from "i18next";
import { initReactI18next } from "react-i18next";
import en from "./en.json";

/** The languages of the product, each under its own name. */
export const LANGUAGES = { en: "English", "zh-CN": "简体中文" } as const;
export type Language = keyof typeof LANGUAGES;

const STORED = "sparsewright.language";

function isLanguage(value: unknown): value is Language {
  return typeof value === "string" && value in LANGUAGES;
}

/** The language that was chosen here before, else the browser's where it is one of ours. */
export function preferred(stored: string | null, browser: readonly string[]): Language {
  if (isLanguage(stored)) return stored;
  return browser[0]?.toLowerCase().startsWith("zh") ? "zh-CN" : "en";
}

/** Every string of the product lies in one file per language; the keys are checked by TypeScript (i18next.d.ts). */
void i18next.use(initReactI18next).init({
  lng: "en",
  fallbackLng: "en",
  resources: { en: { translation: en } },
  interpolation: { escapeValue: false }, // React escapes
});

async function speak(language: Language): Promise<void> {
  if (language !== "en" && !i18next.hasResourceBundle(language, "translation")) {
    const [texts, settings] = await Promise.all([import("./zh-CN.json"), import("./settings.zh-CN.json")]);
    i18next.addResourceBundle(language, "translation", texts.default);
    i18next.addResourceBundle(language, "settings", settings.default);
  }
  await i18next.changeLanguage(language);
  document.documentElement.lang = language;
}

/** Switch to `language` and remember it. */
export async function choose(language: Language): Promise<void> {
  localStorage.setItem(STORED, language);
  await speak(language);
}

/** The page's first language; English where the texts of another can't be had. */
export async function begin(): Promise<void> {
  await speak(preferred(localStorage.getItem(STORED), navigator.languages)).catch(() => speak("en"));
}

/** The word for a training setting, and its one-line explanation. The English ones are the API's own. */
export function settingText(name: string, label: string, description: string): { label: string; description: string } {
  const own = i18next.getResource(i18next.language, "settings", name) as
    | { label: string; description: string }
    | undefined;
  return own ?? { label, description };
}
