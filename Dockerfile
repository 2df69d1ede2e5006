# Both entry points: Airbyte's is the image's own, `docker run --entrypoint tap-vitess` is Singer's.
FROM python:3.13-slim AS build
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.13-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -r /wheels \
    && useradd --uid 1000 --create-home airbyte
USER 1000
WORKDIR /airbyte
ENV AIRBYTE_ENTRYPOINT="source-vitess"
ENTRYPOINT ["source-vitess"]
LABEL io.airbyte.name="tap-vitess/source-vitess" io.airbyte.version="0.2.0"
