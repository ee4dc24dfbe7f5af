import i18next from "i18next";
import { initReactI18next } from "react-i18next";
import en from "./en.json";

/** Every string of the product lies in one file per language; the keys are checked by TypeScript (i18next.d.ts). */
void i18next.use(initReactI18next).init({
  lng: "en",
  fallbackLng: "en",
  resources: { en: { translation: en } },
  interpolation: { escapeValue: false }, // React escapes
});
