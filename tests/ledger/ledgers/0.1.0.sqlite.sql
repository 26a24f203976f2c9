BEGIN TRANSACTION;
CREATE TABLE artifacts (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	kind VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "artifacts" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',1,'frame','{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","kind":"frame","size":1234,"summary":{"rows":10,"columns":["x","y"]},"transient":false}');
INSERT INTO "artifacts" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',1,'model','{"id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","kind":"model","size":99,"summary":{},"transient":false}');
INSERT INTO "artifacts" VALUES('cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',1,'transient','{"id":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","kind":"transient","size":0,"summary":{},"transient":true}');
CREATE TABLE audit (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	action VARCHAR(200), 
	actor VARCHAR(200), 
	subject VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES('013d25d3-0c08-7000-8000-000000000015',1,'promoted','zoë','late/2','{"id":"013d25d3-0c08-7000-8000-000000000015","actor":"zoë","action":"promoted","subject":"late/2","time":"2013-03-01T12:00:00Z","reason":"it''s better","environment":"production","detail":{"ticket":7}}');
CREATE TABLE events (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	dedupe_key VARCHAR(200), 
	environment VARCHAR(200), 
	kind VARCHAR(200), 
	subject VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_events_environment_dedupe_key UNIQUE (environment, dedupe_key)
);
INSERT INTO "events" VALUES('013d25d2-f880-7000-8000-000000000010',1,'k1','production','data','k1','{"id":"013d25d2-f880-7000-8000-000000000010","kind":"data","environment":"production","subject":"k1","time":"2013-03-01T12:00:00Z","known_at":"2013-03-01T12:00:00Z","dedupe_key":"k1","cause":"","payload":{"rows":7,"file":"März.parquet"}}');
INSERT INTO "events" VALUES('013d25d2-fc68-7000-8000-000000000011',1,'data/flüge/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxd936184c8a5767e545304f9d00553184bbf1bd88b2bfa6256df0b3f0f6edf69c','production','data','data/flüge/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxd936184c8a5767e545304f9d00553184bbf1bd88b2bfa6256df0b3f0f6edf69c','{"id":"013d25d2-fc68-7000-8000-000000000011","kind":"data","environment":"production","subject":"data/flüge/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","time":"2013-03-01T12:00:00Z","known_at":"2013-03-01T12:00:00Z","dedupe_key":"data/flüge/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","cause":"","payload":{"rows":7,"file":"März.parquet"}}');
CREATE TABLE jobs (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	dedupe_key VARCHAR(200), 
	environment VARCHAR(200), 
	model VARCHAR(200), 
	state VARCHAR(200), 
	"trigger" VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_jobs_environment_trigger_dedupe_key UNIQUE (environment, "trigger", dedupe_key)
);
INSERT INTO "jobs" VALUES('013d25d3-0050-7000-8000-000000000012',1,'k1','production','late','waiting','new rows','{"id":"013d25d3-0050-7000-8000-000000000012","trigger":"new rows","dedupe_key":"k1","pipeline":"training","environment":"production","state":"waiting","created":"2013-03-01T12:00:00Z","available":"2013-03-01T12:00:00Z","model":"late","params":{"depth":6},"event":"013d25d2-fc68-7000-8000-000000000011","run":"","owner":"","attempts":0,"error":""}');
INSERT INTO "jobs" VALUES('013d25d3-0438-7000-8000-000000000013',1,'data/flüge/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxd936184c8a5767e545304f9d00553184bbf1bd88b2bfa6256df0b3f0f6edf69c','production','','done','new rows','{"id":"013d25d3-0438-7000-8000-000000000013","trigger":"new rows","dedupe_key":"data/flüge/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","pipeline":"training","environment":"production","state":"done","created":"2013-03-01T12:00:00Z","available":"2013-03-01T12:00:00Z","model":"","params":{},"event":"","run":"013d25d2-c1d0-7000-8000-000000000002","owner":"host:1","attempts":1,"error":"x"}');
CREATE TABLE releases (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	name VARCHAR(200), 
	package VARCHAR(200), 
	run VARCHAR(200), 
	version VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_releases_name_version UNIQUE (name, version)
);
INSERT INTO "releases" VALUES('013d25d2-e8e0-7000-8000-00000000000c',1,'late','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','013d25d2-bde8-7000-8000-000000000001','000000000001','{"id":"013d25d2-e8e0-7000-8000-00000000000c","name":"late","version":1,"package":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","flavor":"lightgbm","environment":"production","created":"2013-03-01T12:00:00Z","run":"013d25d2-bde8-7000-8000-000000000001","metrics":{"test_log_loss":0.2},"tags":{"origin":"by hand"},"data":{"until":"2013-03-01"}}');
INSERT INTO "releases" VALUES('013d25d2-f0b0-7000-8000-00000000000e',1,'late','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','013d25d2-bde8-7000-8000-000000000001','000000000002','{"id":"013d25d2-f0b0-7000-8000-00000000000e","name":"late","version":2,"package":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","flavor":"lightgbm","environment":"production","created":"2013-03-01T12:00:00Z","run":"013d25d2-bde8-7000-8000-000000000001","metrics":{"test_log_loss":0.4},"tags":{"origin":"by hand"},"data":{"until":"2013-03-01"}}');
CREATE TABLE routes (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	environment VARCHAR(200), 
	model VARCHAR(200), 
	version VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_routes_environment_model_version UNIQUE (environment, model, version)
);
INSERT INTO "routes" VALUES('013d25d2-ecc8-7000-8000-00000000000d',1,'production','late','000000000001','{"id":"013d25d2-ecc8-7000-8000-00000000000d","environment":"production","model":"late","version":1,"arms":[{"release":"late/1","version":1,"package":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","role":"champion","share":1.0}],"since":"2013-03-01T12:00:00Z","reason":"first","by":"policy","verdict":"v","previous":""}');
INSERT INTO "routes" VALUES('013d25d2-f498-7000-8000-00000000000f',1,'production','late','000000000002','{"id":"013d25d2-f498-7000-8000-00000000000f","environment":"production","model":"late","version":2,"arms":[{"release":"late/2","version":2,"package":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","role":"champion","share":1.0}],"since":"2013-03-01T12:00:00Z","reason":"first","by":"policy","verdict":"v","previous":""}');
CREATE TABLE runs (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	environment VARCHAR(200), 
	model VARCHAR(200), 
	pipeline VARCHAR(200), 
	state VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('013d25d2-bde8-7000-8000-000000000001',1,'production','late','ingestion','done','{"id":"013d25d2-bde8-7000-8000-000000000001","pipeline":"ingestion","environment":"production","state":"done","started":"2013-03-01T12:00:00Z","ended":"2013-03-01T12:03:00Z","seconds":180.25,"model":"late","params":{"model":{"name":"late","depth":6},"since":null},"cause":{"trigger":"new rows","event":"e"},"code":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","commit":"8f11113640c871671cd487d83ee96cebce470f13","dirty":false,"policy":"pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp"},"software":{"tidemill":"0.1.0","numpy":"1.26.4"},"metrics":{"test_log_loss":0.25,"train_rows":1000000.0},"tags":{"team":"red","größe":"a=b"},"graph":{"read":[],"fit":["read"]},"resumed_from":"","error":""}');
INSERT INTO "runs" VALUES('013d25d2-c1d0-7000-8000-000000000002',1,'production','late','training','failed','{"id":"013d25d2-c1d0-7000-8000-000000000002","pipeline":"training","environment":"production","state":"failed","started":"2013-03-01T13:00:00Z","ended":"2013-03-01T13:03:00Z","seconds":180.25,"model":"late","params":{"model":{"name":"late","depth":6},"since":null},"cause":{"by":"hand","user":"zoë"},"code":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","commit":"8f11113640c871671cd487d83ee96cebce470f13","dirty":false,"policy":"pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp"},"software":{"tidemill":"0.1.0","numpy":"1.26.4"},"metrics":{},"tags":{"team":"blue","größe":"a=b"},"graph":{"read":[],"fit":["read"]},"resumed_from":"","error":"KeyError: ''Ankunft_Zürich'' — 100% lost; O''Hare"}');
INSERT INTO "runs" VALUES('013d25d2-c5b8-7000-8000-000000000003',1,'production','late','training','running','{"id":"013d25d2-c5b8-7000-8000-000000000003","pipeline":"training","environment":"production","state":"running","started":"2013-03-01T14:00:00Z","ended":null,"seconds":null,"model":"late","params":{"model":{"name":"late","depth":6},"since":null},"cause":{"by":"hand","user":"zoë"},"code":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","commit":"8f11113640c871671cd487d83ee96cebce470f13","dirty":false,"policy":"pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp"},"software":{"tidemill":"0.1.0","numpy":"1.26.4"},"metrics":{"test_log_loss":0.45,"train_rows":1000000.0},"tags":{"team":"blue","größe":"a=b"},"graph":{"read":[],"fit":["read"]},"resumed_from":"","error":""}');
INSERT INTO "runs" VALUES('013d25d2-c9a0-7000-8000-000000000004',1,'production','late','training','stopped','{"id":"013d25d2-c9a0-7000-8000-000000000004","pipeline":"training","environment":"production","state":"stopped","started":"2013-03-01T15:00:00Z","ended":"2013-03-01T15:03:00Z","seconds":180.25,"model":"late","params":{"model":{"name":"late","depth":6},"since":null},"cause":{"by":"hand","user":"zoë"},"code":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","commit":"8f11113640c871671cd487d83ee96cebce470f13","dirty":false,"policy":"pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp"},"software":{"tidemill":"0.1.0","numpy":"1.26.4"},"metrics":{},"tags":{"team":"blue","größe":"a=b"},"graph":{"read":[],"fit":["read"]},"resumed_from":"013d25d2-c1d0-7000-8000-000000000002","error":"schema"}');
CREATE TABLE schemas (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	source VARCHAR(200), 
	version VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_schemas_source_version UNIQUE (source, version)
);
INSERT INTO "schemas" VALUES('013d25d3-0820-7000-8000-000000000014',1,'flights','000000000001','{"id":"013d25d3-0820-7000-8000-000000000014","source":"flights","version":1,"schema":{"source":"flights","columns":[{"name":"höhe","type":"number","low":0.0}],"key":["höhe"],"extra_columns":"stop","version":1},"accepted":"2013-03-01T12:00:00Z","by":"zoë","reason":"looks right"}');
CREATE TABLE steps (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	"key" VARCHAR(200), 
	run VARCHAR(200), 
	step VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "steps" VALUES('013d25d2-cd88-7000-8000-000000000005',1,'1111111111111111111111111111111111111111111111111111111111111111','013d25d2-bde8-7000-8000-000000000001','read','{"id":"013d25d2-cd88-7000-8000-000000000005","run":"013d25d2-bde8-7000-8000-000000000001","step":"read","position":0,"state":"ran","reason":"first time with this code and these inputs","key":"1111111111111111111111111111111111111111111111111111111111111111","code":"2222222222222222222222222222222222222222222222222222222222222222","executor":"inline","started":"2013-03-01T12:00:00Z","seconds":1.5,"inputs":{"since":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"},"outputs":{"rows":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"error":"","log":""}');
INSERT INTO "steps" VALUES('013d25d2-d170-7000-8000-000000000006',1,'3333333333333333333333333333333333333333333333333333333333333333','013d25d2-bde8-7000-8000-000000000001','fit','{"id":"013d25d2-d170-7000-8000-000000000006","run":"013d25d2-bde8-7000-8000-000000000001","step":"fit","position":1,"state":"ran","reason":"its cache is off","key":"3333333333333333333333333333333333333333333333333333333333333333","code":"4444444444444444444444444444444444444444444444444444444444444444","executor":"inline","started":"2013-03-01T12:00:00Z","seconds":null,"inputs":{"rows":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"outputs":{"model":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"},"error":"","log":""}');
INSERT INTO "steps" VALUES('013d25d2-d558-7000-8000-000000000007',1,'1111111111111111111111111111111111111111111111111111111111111111','013d25d2-c1d0-7000-8000-000000000002','read','{"id":"013d25d2-d558-7000-8000-000000000007","run":"013d25d2-c1d0-7000-8000-000000000002","step":"read","position":0,"state":"ran","reason":"first time with this code and these inputs","key":"1111111111111111111111111111111111111111111111111111111111111111","code":"2222222222222222222222222222222222222222222222222222222222222222","executor":"inline","started":"2013-03-01T12:00:00Z","seconds":1.5,"inputs":{"since":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"},"outputs":{"rows":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"error":"","log":""}');
INSERT INTO "steps" VALUES('013d25d2-d940-7000-8000-000000000008',1,'3333333333333333333333333333333333333333333333333333333333333333','013d25d2-c1d0-7000-8000-000000000002','fit','{"id":"013d25d2-d940-7000-8000-000000000008","run":"013d25d2-c1d0-7000-8000-000000000002","step":"fit","position":1,"state":"failed","reason":"its cache is off","key":"3333333333333333333333333333333333333333333333333333333333333333","code":"4444444444444444444444444444444444444444444444444444444444444444","executor":"inline","started":"2013-03-01T12:00:00Z","seconds":null,"inputs":{"rows":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"outputs":{},"error":"KeyError: ''Ankunft_Zürich'' — 100% lost; O''Hare","log":"Traceback …\n"}');
CREATE TABLE verdicts (
	id VARCHAR(80) NOT NULL, 
	revision INTEGER NOT NULL, 
	action VARCHAR(200), 
	"check" VARCHAR(200), 
	environment VARCHAR(200), 
	model VARCHAR(200), 
	outcome VARCHAR(200), 
	run VARCHAR(200), 
	subject VARCHAR(200), 
	body TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "verdicts" VALUES('013d25d2-dd28-7000-8000-000000000009',1,'proceed','gate','production','late','pass','013d25d2-bde8-7000-8000-000000000001','late/1','{"check":"gate","subject":"late/1","outcome":"pass","action":"proceed","reason":"better by 3 ± 1 %","evidence":{"slices":{"origin=JFK":[0.1,null]}},"reference":"late/0","id":"013d25d2-dd28-7000-8000-000000000009","environment":"production","run":"013d25d2-bde8-7000-8000-000000000001","model":"late","time":"2013-03-01T12:00:00Z"}');
INSERT INTO "verdicts" VALUES('013d25d2-e110-7000-8000-00000000000a',1,'stop','gate','production','late','fail','013d25d2-bde8-7000-8000-000000000001','late/1','{"check":"gate","subject":"late/1","outcome":"fail","action":"stop","reason":"better by 3 ± 1 %","evidence":{"slices":{"origin=JFK":[0.1,null]}},"reference":"late/0","id":"013d25d2-e110-7000-8000-00000000000a","environment":"production","run":"013d25d2-bde8-7000-8000-000000000001","model":"late","time":"2013-03-01T12:00:00Z"}');
INSERT INTO "verdicts" VALUES('013d25d2-e4f8-7000-8000-00000000000b',1,'retrain','gate','production','late','warn','013d25d2-bde8-7000-8000-000000000001','late/1','{"check":"gate","subject":"late/1","outcome":"warn","action":"retrain","reason":"better by 3 ± 1 %","evidence":{"slices":{"origin=JFK":[0.1,null]}},"reference":"late/0","id":"013d25d2-e4f8-7000-8000-00000000000b","environment":"production","run":"013d25d2-bde8-7000-8000-000000000001","model":"late","time":"2013-03-01T12:00:00Z"}');
CREATE INDEX ix_artifacts_kind ON artifacts (kind, id);
CREATE INDEX ix_runs_pipeline ON runs (pipeline, id);
CREATE INDEX ix_runs_environment ON runs (environment, id);
CREATE INDEX ix_runs_model ON runs (model, id);
CREATE INDEX ix_runs_state ON runs (state, id);
CREATE INDEX ix_steps_key ON steps ("key", id);
CREATE INDEX ix_steps_step ON steps (step, id);
CREATE INDEX ix_steps_run ON steps (run, id);
CREATE INDEX ix_verdicts_action ON verdicts (action, id);
CREATE INDEX ix_verdicts_check ON verdicts ("check", id);
CREATE INDEX ix_verdicts_model ON verdicts (model, id);
CREATE INDEX ix_verdicts_run ON verdicts (run, id);
CREATE INDEX ix_verdicts_subject ON verdicts (subject, id);
CREATE INDEX ix_verdicts_environment ON verdicts (environment, id);
CREATE INDEX ix_verdicts_outcome ON verdicts (outcome, id);
CREATE INDEX ix_releases_name ON releases (name, id);
CREATE INDEX ix_releases_package ON releases (package, id);
CREATE INDEX ix_releases_run ON releases (run, id);
CREATE INDEX ix_routes_model ON routes (model, id);
CREATE INDEX ix_events_subject ON events (subject, id);
CREATE INDEX ix_events_kind ON events (kind, id);
CREATE INDEX ix_jobs_trigger ON jobs ("trigger", id);
CREATE INDEX ix_jobs_state ON jobs (state, id);
CREATE INDEX ix_jobs_model ON jobs (model, id);
CREATE INDEX ix_schemas_source ON schemas (source, id);
CREATE INDEX ix_audit_actor ON audit (actor, id);
CREATE INDEX ix_audit_action ON audit (action, id);
CREATE INDEX ix_audit_subject ON audit (subject, id);
COMMIT;
