# rarefy on the CPU:
#   docker build --tag rarefy .
#   docker run --rm --volume "$PWD":/project rarefy run recipe.yaml
# PyPI's torch for Linux brings CUDA along; an index of CPU builds makes the image some GB smaller:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... --tag rarefy .
FROM python:3.12-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL=
COPY . /source
RUN python -m venv /opt/rarefy \
 && /opt/rarefy/bin/pip install --no-cache-dir '/source[cpu]'

FROM python:3.12-slim-bookworm
COPY --from=build /opt/rarefy /opt/rarefy
# Another user id (docker run --user) has no home of its own: this one is open to it.
ENV PATH=/opt/rarefy/bin:$PATH HOME=/home/rarefy USER=rarefy
RUN useradd --create-home --uid 1000 rarefy \
 && install --directory --mode=1777 /project \
 && chmod 1777 /home/rarefy
USER 1000
WORKDIR /project
ENTRYPOINT ["rarefy"]
