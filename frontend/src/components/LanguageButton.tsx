import { Button } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { queries } from "@/api/client";
import { choose, LANGUAGES, type Language } from "@/i18n";

const SHORT: Record<Language, string> = { en: "EN", "zh-CN": "中" };

/** Switches between the two languages; it is labelled in the one that it switches to. */
export function LanguageButton() {
  const { i18n } = useTranslation();
  const next: Language = i18n.language === "zh-CN" ? "en" : "zh-CN";
  return (
    <Button
      variant="default"
      size="xs"
      px={8}
      lang={next}
      aria-label={LANGUAGES[next]}
      onClick={() => void choose(next).then(() => queries.invalidateQueries())}
    >
      {SHORT[next]}
    </Button>
  );
}
