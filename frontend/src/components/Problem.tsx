import { Anchor, Container } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { isRouteErrorResponse, Link, useRouteError } from "react-router";
import { ErrorNote } from "./ErrorNote";
import { Page } from "./Page";

/** In place of a page that does not exist or broke. */
export function Problem() {
  const { t } = useTranslation();
  const error = useRouteError();
  const missing = isRouteErrorResponse(error) && error.status === 404;
  return (
    <Container py="xl">
      <Page title={missing ? t("common.noPage") : t("common.brokenTitle")}>
        {!missing && <ErrorNote error={error} />}
        <Anchor component={Link} to="/" reloadDocument>
          {t("common.home")}
        </Anchor>
      </Page>
    </Container>
  );
}
