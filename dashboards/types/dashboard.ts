// What a classic dashboard may hold, from Grafana's published types, and stricter where those take anything: a panel's
// options and field settings are those of its type.
import type * as schema from "@grafana/schema";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as stateTimeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as timeSeries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/** The same as it is written in JSON, where a member of an enumeration is its text. */
type Json<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T : T extends readonly (infer U)[] ? Json<U>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

interface DataSource {
  type: "prometheus";
  uid: "${datasource}";
}

/** Of @grafana/data, which is not published as types alone. */
interface DataLink {
  title: string;
  url: string;
  targetBlank: boolean;
}

/** Of @grafana/prometheus, which is not published as types alone. */
interface PrometheusQuery {
  refId: string;
  datasource: DataSource;
  editorMode: "code";
  expr: string;
  instant: boolean;
  range: boolean;
  format: "time_series" | "table";
  legendFormat?: string;
  exemplar?: boolean;
}

interface PrometheusVariableQuery {
  qryType: 1;
  query: string;
  refId: "PrometheusVariableQueryEditor-VariableQuery";
}

type Field<Custom> = Json<Omit<schema.FieldConfig, "custom" | "links">> & { custom?: Json<Custom>; links?: DataLink[] };

/** What an override may change: a setting of the field, or one that only this type of panel knows. */
type Property<Custom> =
  | { [K in keyof Field<Custom> & string]-?: { id: K; value: NonNullable<Field<Custom>[K]> } }[Exclude<keyof Field<Custom> & string, "custom">]
  | ([Custom] extends [never] ? never : { [K in keyof Custom & string]-?: { id: `custom.${K}`; value: NonNullable<Json<Custom[K]>> } }[keyof Custom & string]);

type PanelOf<Type extends string, Options, Custom> = Json<Omit<schema.Panel, "type" | "options" | "fieldConfig" | "targets" | "datasource" | "title" | "description" | "id" | "gridPos">> & {
  id: number;
  type: Type;
  title: string;
  description: string;
  gridPos: Json<schema.Panel["gridPos"]>;
  datasource: DataSource;
  targets: PrometheusQuery[];
  options: Json<Options>;
  fieldConfig: {
    defaults: Field<Custom> & { unit: string; noValue: string };
    overrides: { matcher: { id: "byName"; options: string }; properties: Property<Custom>[] }[];
  };
};

type Row = Json<Omit<schema.RowPanel, "panels">> & { panels: [] };

// The table's options in its own file are marked as superseded by the common ones, where no footer is asked for any more.
type AnyPanel =
  | PanelOf<"stat", stat.Options, never>
  | PanelOf<"table", Omit<schema.TableOptions, "frameIndex" | "footer">, schema.TableFieldOptions>
  | PanelOf<"timeseries", timeSeries.Options, timeSeries.FieldConfig>
  | PanelOf<"state-timeline", stateTimeline.Options, stateTimeline.FieldConfig>
  | Row;

type Variable = Json<Omit<schema.VariableModel, "type" | "query" | "datasource">> &
  ({ type: "datasource"; query: "prometheus" | "tempo" } | { type: "query"; datasource: DataSource; query: PrometheusVariableQuery } | { type: "textbox"; query: string });

/** A data source's plug-in keeps its own settings beside Grafana's. */
type Annotation = Json<Omit<schema.AnnotationQuery, "target" | "datasource">> & {
  datasource: DataSource;
  target: { refId: "Anno"; expr: string; interval: string };
  titleFormat: string;
  textFormat: string;
  tagKeys: string;
  useValueForTime: boolean;
};

export type Classic = Json<Omit<schema.Dashboard, "panels" | "annotations" | "templating" | "schemaVersion">> & {
  uid: string;
  title: string;
  description: string;
  schemaVersion: 42;
  annotations: { list: Annotation[] };
  templating: { list: Variable[] };
  panels: AnyPanel[];
};

/** As it is published, without what is stricter above. */
export type Published = Json<schema.Dashboard>;
